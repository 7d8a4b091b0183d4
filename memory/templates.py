"""The final texts that an encoder sees: names and descriptions put into templates."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memory.category import Category, Description

_PLACEHOLDER = re.compile(r"\{c?\}")
_ARTICLES = frozenset({"a", "an", "the"})
_RELATIVES = frozenset({"which", "that", "who", "whose", "where"})
_PRONOUNS = frozenset({"it", "they", "he", "she", "this", "these", "there"})
_PREPOSITIONS = frozenset({"with", "without"})
# fmt: off
_AUXILIARIES = frozenset([
    "is", "are", "was", "were", "has", "have", "had", "can", "could", "may", "might", "must", "should", "will", "would",
])
_VERBS = _AUXILIARIES | frozenset([
    "often", "typically", "usually", "sometimes", "generally", "commonly", "frequently", "always", "never",
    "rarely", "normally", "appears", "bears", "belongs", "carries", "comes", "consists", "contains", "eats",
    "features", "feeds", "flies", "grows", "hangs", "includes", "lacks", "lays", "lives", "looks", "makes",
    "nests", "possesses", "produces", "ranges", "resembles", "seems", "sits", "smells", "sounds", "stands",
    "swims", "tastes", "tends", "uses", "wears",
])
# fmt: on
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W_]+)*|\d+")


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Check that every template has a place for the name.

    Args:
        templates: texts with ``{}`` or ``{c}`` where the name goes; other braces are plain text.

    Returns:
        The distinct templates in their order.

    Raises:
        ValueError: there is no template, or one without a placeholder.
    """
    if isinstance(templates, str):
        raise ValueError(f"templates must be a list of texts, not the single text {templates!r}")
    for template in templates:
        if not _PLACEHOLDER.search(template):
            raise ValueError(f"template {template!r} has no placeholder; put {{}} or {{c}} where the name goes")
    if not templates:
        raise ValueError("there is no template; the plain name is the template '{}'")
    return tuple(dict.fromkeys(templates))


def prompt_name(name: str) -> str:
    """Return a name as it appears in texts: underscores are shown as spaces."""
    return name.replace("_", " ")


def fill_template(template: str, name: str) -> str:
    """Put a name into a template; braces in the name stay as they are."""
    return prompt_name(name).join(_PLACEHOLDER.split(template))


def name_texts(name: str, templates: Sequence[str]) -> tuple[str, ...]:
    """Return the texts whose mean vector stands for the name: one for each template."""
    return tuple(fill_template(template, name) for template in templates)


def grounded_texts(category: Category, description: Description, templates: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of a description together with the name: one for each template, or the sentence itself."""
    if description.kind == "sentence":
        return (description.text,)
    return tuple(_ground(fill_template(t, category.name), category.name, description.text) for t in templates)


def bare_text(category: Category, description: Description) -> str:
    """Return the text of a description without the name."""
    if description.kind == "sentence":
        return _without_name(description.text, prompt_name(category.name))
    return description.text


def contains_name(text: str, name: str) -> bool:
    """Say whether a text contains a name as whole words: in any case, with spaces for underscores, also in plural."""
    return _name_pattern(prompt_name(name)).search(text) is not None


def _ground(filled: str, name: str, description: str) -> str:
    """Append a description to a filled template, as a relative clause or as a sentence of its own."""
    text = description.strip()
    if _is_sentence(text, prompt_name(name)):
        return f"{filled.rstrip().rstrip('.')}. {text}"
    stop = "." if filled.rstrip().endswith(".") else ""
    return f"{filled.rstrip().rstrip('.')}, {_clause(text.rstrip('.'))}{stop}"


def _clause(phrase: str) -> str:
    words = _words(phrase)
    first = words[0] if words and phrase.lower().startswith(words[0]) else ""
    lowered = phrase[:1].lower() + phrase[1:]
    if first in _RELATIVES or first in _PREPOSITIONS:
        return lowered
    if first in _VERBS:
        return f"which {lowered}"
    if first in _ARTICLES:
        return f"which is {lowered}"
    return f"which has {phrase}"


def _is_sentence(text: str, name: str) -> bool:
    """Say whether a description is a full sentence rather than a phrase."""
    words = _words(text)
    if len(words) < 2:
        return False
    if words[0] in _PRONOUNS:
        return True
    subject = re.match(r"(?:(?:a|an|the|most|all|some)\s+)?", text, re.IGNORECASE)
    rest = text[subject.end() :] if subject else text
    if rest.casefold().startswith(name.casefold()):
        following = _words(rest[len(name) :])
        if following and following[0] in _VERBS:
            return True
    return _is_written_as_sentence(text, words)


def _is_written_as_sentence(text: str, words: list[str]) -> bool:
    if not text.endswith((".", "!")) or not text[0].isupper() or words[0] in _VERBS | _RELATIVES:
        return False
    finite = next((i for i, word in enumerate(words) if word in _AUXILIARIES), None)
    return finite is not None and not _RELATIVES.intersection(words[:finite])


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _name_pattern(name: str) -> re.Pattern[str]:
    words = [re.escape(word) for word in name.split()]
    body = r"\s+".join(words) if words else re.escape(name)
    return re.compile(rf"(?<!\w){body}(?:e?s)?(?!\w)", re.IGNORECASE)


def _without_name(sentence: str, name: str) -> str:
    """Take a name, and an article before it, out of a sentence; a sentence that is nothing else stays whole."""
    pattern = re.compile(rf"(?:(?<!\w)(?:a|an|the)\s+)?{_name_pattern(name).pattern}(?:['’]s(?!\w))?", re.IGNORECASE)
    rest = pattern.sub(" ", sentence)
    rest = re.sub(r"\s+", " ", rest)
    rest = re.sub(r"\s+([,.;:!?])", r"\1", rest)
    rest = re.sub(r"^[\s,;:.!?]+", "", rest).strip()
    return rest if _WORD.search(rest) else sentence
