"""The final texts that an encoder reads: names and descriptions put into templates.

A description of any form follows the name after a comma: "a photo of a heron, long legs". Relative clauses ("which has
long legs"), chosen by a grammar of articles and verbs, were not better with the starter and WordNet glosses. Top-1
with the default weights, clauses and commas: stamps of the development fold (81 photographs, 403 names) 0.469 and
0.469, GCompris (210 photographs, 121 names) 0.495 and 0.495, Noto emoji of the development fold (203 drawings, 1,130
names) 0.084 and 0.089; from names and descriptions of the whole image 0.444 and 0.444, 0.505 and 0.500, 0.099 and
0.094. Every 95 % interval of a difference includes 0. Glosses cut at commas, and the labels of the demo, agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from memory.category import Category, Description
from memory.errors import printable

_PLACEHOLDER = re.compile(r"\{c?\}")  # of classify-by-description (`{}`) and of CuPL and open_clip (`{c}`)
# Placeholders of other tools, which would go to the encoder as they are: "{label}", "{0}", "%s".
_FOREIGN = re.compile(r"\{(?!c?\})\w*\}|%s")
# What data sets write before a name: "n02084071 dog" or "n02085620-Chihuahua" (ImageNet), "001.Black_footed_Albatross"
# (CUB, Caltech). Three digits, so that "7.Up" is a name.
_NUMBER = re.compile(r"^(?:n\d{8}[\s_-]+(?=\S)|\d{3,}\.(?=[^\W\d_]))", re.ASCII)
# Two or more capitalised words written as one: "AnnualCrop", but neither "iPhone" nor "McDonald".
_CAMEL_CASE = re.compile(r"(?!Ma?c[A-Z])(?:[A-Z][a-z]+){2,}")
_CAPITAL = re.compile(r"(?<!^)[A-Z]")
_WORD = re.compile(r"[^\W_]")


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Check that every template has a place for the name.

    Args:
        templates: texts with ``{}`` or ``{c}`` for the name.

    Returns:
        The distinct templates in their order.

    Raises:
        ValueError: there is no template, or one without a placeholder or with one of another tool.
    """
    if isinstance(templates, str):
        raise ValueError(f"templates must be a list of texts, not the single text {templates!r}")
    for template in templates:
        if foreign := _FOREIGN.search(template):
            raise ValueError(
                f"template {printable(template)!r} has the placeholder {foreign.group()!r} of another tool; "
                "write {} or {c} in place of the name"
            )
        if not _PLACEHOLDER.search(template):
            raise ValueError(
                f"template {printable(template)!r} has no placeholder; write {{}} or {{c}} in place of the name"
            )
    if not templates:
        raise ValueError("there is no template; for the plain name, give the template '{}'")
    return tuple(dict.fromkeys(templates))


@lru_cache(maxsize=16)  # the texts of one category are made together
def prompt_name(name: str) -> str:
    """Return a name as it appears in texts: as words.

    Underscores are spaces, "AnnualCrop" is "annual crop", and the numbers of data sets before a name are left out:
    "001.Black_footed_Albatross" is "Black footed Albatross", "n02084071 dog" is "dog".
    """
    words = _NUMBER.sub("", name, count=1)
    if _CAMEL_CASE.fullmatch(words):
        words = _CAPITAL.sub(r" \g<0>", words).lower()
    return words.replace("_", " ")


def prompt_names(category: Category) -> tuple[str, ...]:
    """Return the distinct names of a category as they appear in texts, first its own, then its aliases."""
    return tuple(dict.fromkeys(prompt_name(name) for name in (category.name, *category.aliases)))


def fill_template(template: str, name: str) -> str:
    """Put a name into a template; braces in the name are not placeholders."""
    return _fill(template, prompt_name(name))


def name_texts(category: Category, templates: Sequence[str]) -> tuple[str, ...]:
    """Return the texts whose mean vector represents the name: one for each template and each distinct name."""
    return tuple(_fill(template, words) for words in prompt_names(category) for template in templates)


def grounded_texts(category: Category, description: Description, templates: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of a description together with the name: one for each template, or the sentence itself."""
    if description.kind == "sentence":
        return (description.text,)
    return tuple(_join(fill_template(t, category.name), description.text) for t in templates)


def bare_text(category: Category, description: Description) -> str:
    """Return the text of a description alone; the name is removed from a sentence."""
    if description.kind == "sentence":
        return _without_name(description.text, prompt_name(category.name))
    return description.text


def contains_name(text: str, name: str) -> bool:
    """Say whether a text contains a name as whole words, in upper or lower case, in singular or plural."""
    words = prompt_name(name)
    # Most texts lack the first word; then no pattern need be compiled.
    first = (words.split() or [words])[0]
    return first.casefold() in text.casefold() and _name_pattern(words).search(text) is not None


def _fill(template: str, words: str) -> str:
    return words.join(_PLACEHOLDER.split(template))


def _join(filled: str, description: str) -> str:
    """Append a description to a filled template, before its final period: "a photo of a heron, long legs."."""
    stem = filled.rstrip()
    stop = "." if stem.endswith(".") else ""
    return f"{stem.rstrip('.')}, {description.strip().rstrip('.')}{stop}"


def _name_pattern(name: str) -> re.Pattern[str]:
    """Match a name as whole words, with any white space between them, and a plural in -s or -es."""
    words = [re.escape(word) for word in name.split()]
    body = r"\s+".join(words) if words else re.escape(name)
    return re.compile(rf"(?<!\w){body}(?:e?s)?(?!\w)", re.IGNORECASE)


def _without_name(sentence: str, name: str) -> str:
    """Remove a name, and an article before it, from a sentence; a sentence of nothing else is returned unchanged."""
    pattern = re.compile(rf"(?:(?<!\w)(?:a|an|the)\s+)?{_name_pattern(name).pattern}(?:['’]s(?!\w))?", re.IGNORECASE)
    rest = pattern.sub(" ", sentence)
    rest = re.sub(r"\s+", " ", rest)
    rest = re.sub(r"\s+([,.;:!?])", r"\1", rest)
    rest = re.sub(r"^[\s,;:.!?]+", "", rest).strip()
    return rest if _WORD.search(rest) else sentence
