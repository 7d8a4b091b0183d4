"""Changes of the memory that requests ask for, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from memory import Category, Memory
from memory.category import Description, matching_category
from recognizer.evaluation.labelled import LabelledSet
from recognizer.exemplar_files import add_labelled, remove_exemplars, warnings_about
from recognizer.exemplars import store_head
from recognizer.images import ImageItem
from recognizer.serving.following import FollowedMemory
from recognizer.unknown.mining import labels_again


class NewCategory(BaseModel):
    """A category to add, or further descriptions of one."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=10_000)
    group: str = Field(default="", max_length=10_000)
    descriptions: list[str] = Field(default_factory=list, max_length=1000)

    def category(self) -> Category:
        """Return it as the memory knows categories.

        Raises:
            ValueError: a text cannot be stored.
        """
        if not self.name.strip():
            raise ValueError("the name of a category is blank")
        texts = tuple(Description(text, source="http") for text in self.descriptions)
        return Category(self.name, self.group, texts)


@dataclass(frozen=True, slots=True)
class AddedExemplars:
    """Example images that a request brought.

    Attributes:
        encoded: how many were encoded, the others being known already.
        problems: a sentence per image that could not be used.
        warnings: a sentence per image that is an example of another category, too.
    """

    encoded: int
    problems: list[str]
    warnings: list[str]


class Editor:
    """Changes the followed memory; the next request is answered from the changed one.

    Args:
        followed: the memory.
    """

    def __init__(self, followed: FollowedMemory) -> None:
        """Keep it."""
        self._followed = followed
        self._turn = threading.Lock()

    def add(self, categories: Sequence[Category]) -> list[Category]:
        """Add categories; return them."""
        with self._turn:
            memory = self._memory()
            encoder = self._followed.current.recognizer.encoder
            negatives = labels_again(memory)
            memory.add(categories, encoder=encoder, negatives=negatives)
            self._publish(memory)
        return list(categories)

    def remove(self, name_or_id: str) -> list[Category]:
        """Remove a category; `UnknownCategory` where there is none."""
        with self._turn:
            memory = self._memory()
            removed = memory.remove([name_or_id])
            self._publish(memory)
        return removed

    def add_exemplars(self, name_or_id: str, items: Sequence[ImageItem]) -> AddedExemplars:
        """Add example images of a category; return what became of them."""
        with self._turn:
            memory = self._memory()
            category = matching_category(memory.vectors.categories, name_or_id)
            row = next(row for row, one in enumerate(memory.vectors.categories) if one.id == category.id)
            images = LabelledSet(list(items), [row] * len(items), {})
            encoder = self._followed.current.recognizer.encoder
            read = add_labelled(memory, encoder, images, place=Path("http"))
            warnings = warnings_about(memory.vectors, read.exemplars.hashes)
            self._followed.refresh()
        return AddedExemplars(read.encoded, list(read.problems), warnings)

    def remove_exemplar(self, reference: str) -> int:
        """Remove an example image, or all those of a category; return how many."""
        with self._turn:
            removed = remove_exemplars(self._memory(), [reference])
            self._followed.refresh()
        return removed

    def _memory(self) -> Memory:
        return Memory.open(self._followed.directory)

    def _publish(self, memory: Memory) -> None:
        store_head(memory)
        self._followed.refresh()
