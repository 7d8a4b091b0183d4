import datetime
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recognizer.plain_yaml import DEEPEST, LONGEST_PROBLEM, MOST_BYTES, PlainYamlError, load_plain_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(plain_values)
def test_what_safe_dump_writes_is_read_back(value):
    dumped = yaml.safe_dump(value)
    assert load_plain_yaml(dumped) == value
    assert load_plain_yaml(dumped.encode()) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", False),
        ("null", None),
        ("", None),
        ("-1_000", -1000),
        ("1.5e-3", 0.0015),
        (".inf", float("inf")),
        ("[JPEG, PNG]", ["JPEG", "PNG"]),
        ("1:30", "1:30"),
        ("1:1" + ":1" * 50_000, "1:1" + ":1" * 50_000),
        ("1:1.0" + ":1" * 9, "1:1.0" + ":1" * 9),
        ("010", "010"),
        ("2020-01-01", "2020-01-01"),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
    ],
)
def test_only_plain_values_have_a_meaning(text, value):
    assert load_plain_yaml(text) == value
    assert not isinstance(load_plain_yaml(text), datetime.date)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: " + "[" * 5000, "line 1, column 23: it is nested more than 20 levels deep"),
        ("[" * 5000 + "]" * 5000, "nested more than 20 levels"),
        ("{a: " * 5000, "nested more than 20 levels"),
        ("".join(" " * n + "a:\n" for n in range(500)), "line 20, column 20: it is nested"),
        ("- " * 5000, "nested more than 20 levels"),
        ("!!timestamp abc", "the tag 'tag:yaml.org,2002:timestamp' is not allowed"),
        ("a: !!bool maybe", "the tag"),
        ("a: !!python/object/apply:os.system [true]", "the tag"),
        ("!" + "x" * 10_000 + " a", "the tag"),
        (BOMB, r"line 2, column 10: the alias \*a0 is not allowed"),
        ("a: &a [*a]", "the alias"),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key 'a' was already set in line 1"),
        ("a: {on: 1, true: 2}", "the key True was already set in line 1"),
        ("? [a]\n: 1", "cannot be a key"),
        ("? {a: 1}\n: 1", "cannot be a key"),
        ("a: [", "line 1, column 5: expected"),
        ("a: 1\n--- \nb: 2", "line 2"),
        ("a: \x1b[2J", "special characters"),
        ("9" * 5000, "4300 digits"),
        (b"\xff", "utf-8"),
        ("a" * (MOST_BYTES + 1), f"larger than {MOST_BYTES} bytes"),
    ],
)
def test_the_rest_is_refused_in_one_short_line(text, said):
    with pytest.raises(PlainYamlError, match=said) as caught:
        load_plain_yaml(text)
    assert len(str(caught.value)) < LONGEST_PROBLEM + 50
    assert str(caught.value).isprintable()


def test_twenty_levels_are_allowed():
    text = "[" * (DEEPEST - 1) + "1" + "]" * (DEEPEST - 1)
    assert str(load_plain_yaml(text)) == text
    with pytest.raises(PlainYamlError):
        load_plain_yaml(f"[{text}]")


def test_siblings_are_not_depth():
    assert load_plain_yaml("[[1], [1]" + ", [1]" * 100 + "]") == [[1]] * 102


def test_reading_loads_no_torch():
    code = "import sys, recognizer.plain_yaml; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
