"""The texts of a build: what the encoder reads for each category, and a key for each vector that comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from memory.category import Category, Description
from memory.encoder_card import EncoderCard
from memory.merging import sorted_by_id
from memory.store import BATCH_ROWS
from memory.templates import bare_text, grounded_texts, name_texts

# 128 bits: among a billion texts the chance of one collision is below 1e-20.
KEY_BYTES = 16

Item = TypeVar("Item")

Keys = NDArray[np.bytes_]
"""(N) of dtype S16: hashes over encoder fingerprint, precision and final texts."""


@dataclass(frozen=True, slots=True)
class TextGroups:
    """N groups of final texts; each group gives one stored vector, the mean of the vectors of its texts.

    Attributes:
        texts: (N) the groups, one text for each template, or for each template and name.
        keys: (N) the key of each group.
    """

    texts: Sequence[tuple[str, ...]]
    keys: Keys

    @classmethod
    def of(cls, texts: Sequence[tuple[str, ...]], card: EncoderCard) -> TextGroups:
        """Compute the keys."""
        return cls(texts, text_keys(texts, card))

    def single_keys(self, card: EncoderCard) -> Keys:
        """Return the keys of all texts as groups of one, in their order."""
        if all(len(group) == 1 for group in self.texts):
            return self.keys
        return text_keys([(text,) for group in self.texts for text in group], card)


DescriptionRow = tuple[Category, int, Description]
"""A category, and the place and text of one of its descriptions."""


class BuildTexts:
    """The texts of the names and descriptions of categories, sorted by id, and of P negative labels.

    They are made part by part whenever they are asked for, as those of a million categories take gigabytes.

    Attributes:
        categories: sorted by id.
        negatives: (P) texts of the candidates for negative labels.

    Args:
        categories: merged ones.
        templates: checked ones.
        card: of the encoder.
        negatives: (P) names of the candidates.
    """

    def __init__(
        self,
        categories: Sequence[Category],
        templates: Sequence[str],
        card: EncoderCard,
        negatives: Sequence[str] = (),
    ) -> None:
        """Keep the categories."""
        self.categories = sorted_by_id(categories)
        self._templates = templates
        self._card = card
        self.negatives = TextGroups.of([name_texts(Category(name), templates) for name in negatives], card)

    def names(self) -> Iterator[tuple[list[Category], TextGroups]]:
        """Yield the categories with the texts of their names, at most `BATCH_ROWS` at a time."""
        for part in _batched(self.categories):
            yield part, self._named(part)

    def descriptions(self) -> Iterator[tuple[list[DescriptionRow], TextGroups, TextGroups]]:
        """Yield the descriptions in the order of the categories, at most `BATCH_ROWS` at a time.

        With them come their texts together with the name, and alone.
        """
        yield from self._described(self.categories)

    def groups(self) -> Iterator[TextGroups]:
        """Yield all texts, in any order, at most `BATCH_ROWS` at a time; the categories are read once."""
        for part in _batched(self.categories):
            yield self._named(part)
            for _, grounded, bare in self._described(part):
                yield grounded
                yield bare
        yield self.negatives

    def _named(self, categories: Sequence[Category]) -> TextGroups:
        return TextGroups.of([name_texts(category, self._templates) for category in categories], self._card)

    def _described(
        self, categories: Iterable[Category]
    ) -> Iterator[tuple[list[DescriptionRow], TextGroups, TextGroups]]:
        rows = (
            (category, number, description)
            for category in categories
            for number, description in enumerate(category.descriptions)
        )
        for part in _batched(rows):
            grounded = [grounded_texts(category, text, self._templates) for category, _, text in part]
            bare = [(bare_text(category, text),) for category, _, text in part]
            yield part, TextGroups.of(grounded, self._card), TextGroups.of(bare, self._card)


def text_keys(groups: Sequence[Sequence[str]], card: EncoderCard) -> Keys:
    """Return the (N) keys of N groups of final texts."""
    prefix = f"{card.fingerprint}/{card.precision}/".encode()
    return keys_from_bytes(b"".join(_key(prefix, group) for group in groups))


def keys_from_bytes(data: bytes | memoryview) -> Keys:
    """Return the keys in a buffer that holds them one after the other."""
    return np.frombuffer(data, dtype=f"S{KEY_BYTES}")


def lookup(keys: Keys, order: NDArray[np.int64], wanted: Keys) -> NDArray[np.int64]:
    """Return (N) int64 the position of each wanted key in ``keys``, -1 where it is missing.

    Args:
        keys: (M) keys, in any order.
        order: (M) int64 permutation that sorts them.
        wanted: (N) keys.
    """
    if not len(keys) or not len(wanted):
        return np.full(len(wanted), -1, np.int64)
    places = np.searchsorted(keys, wanted, sorter=order)
    # A key greater than all others has the place M; the comparison below then says that it is missing.
    nearest = order[np.minimum(places, len(keys) - 1)]
    return np.where(keys[nearest] == wanted, nearest, -1)


def _key(prefix: bytes, texts: Sequence[str]) -> bytes:
    digest = hashlib.blake2b(prefix, digest_size=KEY_BYTES)
    for text in texts:
        data = text.encode()
        # With its length before it, ("ab",) and ("a", "b") have different keys.
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


def _batched(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH_ROWS)):
        yield batch
