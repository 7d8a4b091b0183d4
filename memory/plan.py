"""What a build has to know about each category before anything is encoded: its final texts and their keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory.category import Category
from memory.encoder_card import EncoderCard
from memory.templates import bare_text, grounded_texts, name_texts

KEY_BYTES = 16

Keys = NDArray[np.bytes_]
"""(N) of dtype S16: hashes over encoder fingerprint, precision and final texts."""


def text_keys(groups: Sequence[Sequence[str]], card: EncoderCard) -> Keys:
    """Return the (N) keys of N groups of final texts."""
    prefix = f"{card.fingerprint}/{card.precision}/".encode()
    return keys_from_bytes(b"".join(_key(prefix, group) for group in groups))


def keys_from_bytes(data: bytes | memoryview) -> Keys:
    """Return keys that lie one after the other in a buffer."""
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
    found = order[np.minimum(places, len(keys) - 1)]
    return np.where(keys[found] == wanted, found, -1)


def _key(prefix: bytes, texts: Sequence[str]) -> bytes:
    digest = hashlib.blake2b(prefix, digest_size=KEY_BYTES)
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class TextGroups:
    """Groups of final texts; each group is one stored vector, the mean of its texts' vectors."""

    texts: Sequence[tuple[str, ...]]
    keys: Keys


@dataclass(frozen=True, slots=True)
class Plan:
    """Categories sorted by id, with the text groups of their rows.

    Attributes:
        categories: (C) sorted by id.
        offsets: (C + 1) int64; descriptions of category c are ``offsets[c]:offsets[c + 1]``.
        names: (C) text groups of the names.
        grounded: (J) text groups of the descriptions together with the name.
        bare: (J) text groups of the descriptions alone.
    """

    categories: Sequence[Category]
    offsets: NDArray[np.int64]
    names: TextGroups
    grounded: TextGroups
    bare: TextGroups


def make_plan(categories: Sequence[Category], templates: Sequence[str], card: EncoderCard) -> Plan:
    """Put names and descriptions into the templates and compute the keys of all rows."""
    ordered = sorted(categories, key=lambda category: category.id)
    counts = [len(category.descriptions) for category in ordered]
    pairs = [(category, description) for category in ordered for description in category.descriptions]
    return Plan(
        ordered,
        np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64),
        _groups([name_texts(category.name, templates) for category in ordered], card),
        _groups([grounded_texts(category, description, templates) for category, description in pairs], card),
        _groups([(bare_text(category, description),) for category, description in pairs], card),
    )


def _groups(texts: list[tuple[str, ...]], card: EncoderCard) -> TextGroups:
    return TextGroups(texts, text_keys(texts, card))
