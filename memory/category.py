"""Categories to recognise, and their descriptions."""

from __future__ import annotations

import difflib
import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from memory.errors import UnknownCategory, printable
from memory.lineage import levels

DescriptionKind = Literal["attribute", "sentence"]


@dataclass(frozen=True, slots=True)
class Description:
    """A text about a category.

    Attributes:
        text: the text of the user, unchanged.
        kind: "attribute" for a property ("long red legs"), which is put into a template with the name; "sentence" for
            a full sentence that contains the name, which is used unchanged.
        source: where the text comes from (a file name, a model), free text.
    """

    text: str
    kind: DescriptionKind = "attribute"
    source: str = ""

    def __post_init__(self) -> None:
        """Check the text and the kind."""
        check_text(self.text, "description")
        check_text(self.source, "source", empty_allowed=True)
        if self.kind not in ("attribute", "sentence"):
            raise ValueError(f"description kind {self.kind!r} is neither 'attribute' nor 'sentence'")


@dataclass(frozen=True, slots=True)
class Category:
    """Something to recognise: its name and what is known about it.

    Attributes:
        name: the name of the user, unchanged.
        group: distinguishes equal names ("crane" the bird and "crane" the machine); levels of a path are separated as
            in `memory.lineage`.
        descriptions: distinct texts about the category, in the user's order.
        metadata: further columns of the label file.
        exemplars: example images, as paths or references.
        aliases: other names of the same thing ("home plate" for "baseball base").
    """

    name: str
    group: str = ""
    descriptions: tuple[Description, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    exemplars: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that every text can be stored."""
        check_text(self.name, "name")
        check_text(self.group, "group", empty_allowed=True)
        for alias in self.aliases:
            check_text(alias, "alias")
        for key, value in self.metadata.items():
            check_text(key, "metadata key", empty_allowed=True)
            check_text(value, "metadata value", empty_allowed=True)

    @property
    def id(self) -> str:
        """16 hexadecimal digits, a hash of name and group; it does not depend on row order or descriptions."""
        return hashlib.sha256(json.dumps([self.name, self.group]).encode()).hexdigest()[:16]

    @property
    def path(self) -> tuple[str, ...]:
        """The levels of the group, from the top, and the name; it comes once where the group already ends in it."""
        above = levels(self.group)
        return above if above[-1:] == (self.name,) else (*above, self.name)


def check_text(text: str, what: str, *, empty_allowed: bool = False) -> None:
    """Refuse the few texts that cannot be stored: empty ones, NUL and lone surrogates.

    Raises:
        ValueError: with the text and the reason.
    """
    if not isinstance(text, str):
        raise ValueError(f"the {what} {text!r} is not a text")
    if not text and not empty_allowed:
        raise ValueError(f"the {what} is empty")
    if "\0" in text:
        raise ValueError(f"the {what} {printable(text)!r} contains a NUL character")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the {what} {printable(text)!r} contains a lone surrogate, which is not text") from error


def matching_category(categories: Sequence[Category], text: str) -> Category:
    """Return the one category with this name or id.

    Raises:
        UnknownCategory: none has it, or several.
    """
    for wanted in (text, unicodedata.normalize("NFC", text)):
        matches = [category for category in categories if wanted in (category.name, category.id)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            groups = ", ".join(f"{category.id} (group {printable(category.group)!r})" for category in matches)
            raise UnknownCategory(f"{printable(text)!r} matches {len(matches)} categories; give the id: {groups}.")
    # Names may have 10,000 characters, and the comparison is quadratic in them.
    close = difflib.get_close_matches(text[:80], [category.name[:80] for category in categories], n=3)
    hint = f" Similar names: {', '.join(map(repr, map(printable, close)))}." if close else ""
    raise UnknownCategory(f"the memory holds no category {printable(text)!r}.{hint} Give a name as `export` shows it.")
