import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.template_file import parse_templates

CORPUS = Path(__file__).parents[1] / "corpus" / "labels"

OPEN_CLIP = """
OPENAI_IMAGENET_TEMPLATES = (
    lambda c: f'a bad photo of a {c}.',  # the first
    lambda c: f"the {c}'s photo.",
)
"""


@pytest.mark.parametrize(
    ("text", "templates"),
    [
        ((CORPUS / "templates_lambda.txt").read_text(), ("a photo of a {c}.", "a bad photo of a {c}.")),
        ((CORPUS / "templates.json").read_text(), ("a photo of a {c}.", "a drawing of a {c}.")),
        (OPEN_CLIP, ("a bad photo of a {c}.", "the {c}'s photo.")),
        ("lambda name: f'a {name}, {name}!'", ("a {c}, {c}!",)),
        ("lambda c: 'a {}.'.format(c),", ("a {}.",)),
        ("[lambda c: f'{c}', lambda c: f'a {c}']", ("{c}", "a {c}")),
        ("  'a {}.',\n  \"the {c}\",\n", ("a {}.", "the {c}")),
        ("templates = ['a {}.', 'a {}.']", ("a {}.",)),
        ('{"imagenet1k": ["a {c}."]}', ("a {c}.",)),
        ("# prompts\na {}\n\n {c} \r\n", ("a {}", "{c}")),
        ("{} in the snow\n{c}", ("{} in the snow", "{c}")),
        ("a photo of 'the' {}, cropped", ("a photo of 'the' {}, cropped",)),
    ],
)
def test_templates_of_other_tools_are_read(text, templates):
    assert parse_templates(text) == templates


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no template"),
        ("[]", "there is no template"),
        ("a photo\n", "no placeholder"),
        ("a photo of a {label}.", "'{label}' of another tool"),
        ('["a photo of a {0}."]', "'{0}' of another tool"),
        ("a photo of a %s, {}", "'%s' of another tool"),
        ('{"cifar10": ["a {c}"], "mnist": ["a {c}"]}', "2 entries .'cifar10', 'mnist'."),
        ("[1]", "not a list of templates"),
        ("[" * 100_000, "nested too deeply|cannot be read"),
        ("lambda c: f'a {c.lower()}.',", r"line 1: .*c.lower\(\).* is not the name alone"),
        ("lambda c: f'a {c}.',\nlambda c: open(c),", r"line 2: the lambda makes 'open\(c\)'"),
        ("x = ['a {}']\nimport os\n", "line 2 holds 'import os'"),
        ("lambda c: f'a {c}.',\nlambda c: (", "looks like Python and cannot be read"),
    ],
)
def test_what_is_no_template_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_templates(text)


def test_nothing_is_run(tmp_path):
    with pytest.raises(ValueError, match="no template"):
        parse_templates(f"templates = [open({str(tmp_path / 'run')!r}, 'w'), lambda c: f'{{c}}']")
    assert list(tmp_path.iterdir()) == []


PLAIN = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="{}%="), min_size=1)


@given(st.lists(st.tuples(PLAIN, PLAIN), min_size=1, unique=True))
def test_json_lambdas_and_lines_of_the_same_templates_are_read_alike(parts):
    templates = tuple(f"a{before} {{c}} {after}" for before, after in parts)
    assert parse_templates(json.dumps(templates)) == templates
    assert parse_templates("\n".join(f"lambda c: f{template!r}," for template in templates)) == templates
    assert parse_templates("\n".join(templates)) == templates
