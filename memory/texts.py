"""The texts of a build: what the encoder reads for each category, and a key for each vector that comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory.category import Category
from memory.encoder_card import EncoderCard
from memory.templates import bare_text, grounded_texts, name_texts

# 128 bits: among a billion texts the chance of one collision is below 1e-20.
KEY_BYTES = 16

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


@dataclass(frozen=True, slots=True)
class BuildTexts:
    """C categories sorted by id, with the texts of their names and J descriptions, and of P negative labels.

    Attributes:
        categories: (C) sorted by id.
        names: (C) texts of the names.
        grounded: (J) texts of the descriptions together with the name, in the order of the categories.
        bare: (J) texts of the descriptions alone.
        negatives: (P) texts of the candidates for negative labels.
    """

    categories: Sequence[Category]
    names: TextGroups
    grounded: TextGroups
    bare: TextGroups
    negatives: TextGroups

    @classmethod
    def make(
        cls,
        categories: Sequence[Category],
        templates: Sequence[str],
        card: EncoderCard,
        negatives: Sequence[str] = (),
    ) -> BuildTexts:
        """Put names and descriptions into the templates, and compute the keys."""
        ordered = sorted(categories, key=lambda category: category.id)
        pairs = [(category, description) for category in ordered for description in category.descriptions]

        def groups(texts: list[tuple[str, ...]]) -> TextGroups:
            return TextGroups(texts, text_keys(texts, card))

        return cls(
            ordered,
            groups([name_texts(category, templates) for category in ordered]),
            groups([grounded_texts(category, description, templates) for category, description in pairs]),
            groups([(bare_text(category, description),) for category, description in pairs]),
            groups([name_texts(Category(name), templates) for name in negatives]),
        )

    @property
    def groups(self) -> tuple[TextGroups, ...]:
        """Names, grounded and bare descriptions, candidates for negative labels."""
        return self.names, self.grounded, self.bare, self.negatives


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
