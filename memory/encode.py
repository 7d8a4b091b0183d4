"""Vectors for the texts of a build: from the published tables, from the journal, or from the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from memory.columns import MemoryColumns, StoredRows, numbers
from memory.encoder_card import EncoderCard, TextEncoder
from memory.halves import rounded
from memory.journal import VectorJournal
from memory.tables import VECTOR_COLUMNS
from memory.texts import KEY_BYTES, BuildTexts, Keys, TextGroups, keys_from_bytes, lookup, text_keys
from memory.vectors import Matrix, check_unit_rows, unit_mean

# Texts for the encoder, and for the disk, at a time: seconds of work, so that a kill costs seconds.
CHUNK_TEXTS = 2048

Progress = Callable[[int, int], None]
"""Called with the number of texts encoded so far, and the number to encode."""


class PublishedVectors:
    """The vectors of a memory that a build can use again; they are read when they are asked for.

    Args:
        columns: of the memory, perhaps mapped; None: of none. Keys depend on the encoder, so a memory of another
            encoder has none of the wanted keys.
        wanted: the keys that the build needs; others are not held in memory.
    """

    def __init__(self, columns: MemoryColumns | None, wanted: Keys) -> None:
        """Look for the wanted keys."""
        prefixes = np.unique(_prefixes(wanted))
        self._sources: list[StoredRows] = []
        keys, places, sources = [keys_from_bytes(b"")], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        tables = columns.tables if columns is not None and len(wanted) else {}
        for table, own in tables.items():
            for key_column, column in VECTOR_COLUMNS.get(table, ()):
                own_keys: Keys = numbers(own.texts.column(key_column), np.dtype(f"S{KEY_BYTES}"))
                own_prefixes = _prefixes(own_keys)
                nearest = np.minimum(np.searchsorted(prefixes, own_prefixes), len(prefixes) - 1)
                hits = np.flatnonzero(prefixes[nearest] == own_prefixes)
                keys.append(own_keys[hits])
                places.append(hits)
                sources.append(np.full(len(hits), len(self._sources)))
                self._sources.append(own.rows(column, None))
        self._keys: Keys = np.concatenate(keys)
        self._places = np.concatenate(places)
        self._source_numbers = np.concatenate(sources)
        self._order = np.argsort(self._keys, kind="stable")

    def get(self, keys: Keys) -> tuple[NDArray[np.bool_], Matrix]:
        """Return for N keys (N) bool which of them are here, and the (n, D) vectors of those."""
        positions = lookup(self._keys, self._order, keys)
        is_here = positions >= 0
        positions = positions[is_here]
        dim = self._sources[0].shape[1] if self._sources else 0
        vectors = np.empty((len(positions), dim), np.float32)
        for number, source in enumerate(self._sources):
            own = self._source_numbers[positions] == number
            if own.any():
                vectors[own] = source[self._places[positions[own]]]
        return is_here, vectors

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Return for N keys (N) bool which of them are here."""
        return lookup(self._keys, self._order, keys) >= 0


class VectorSource:
    """Gives the stored vector of each text group, once everything missing has been encoded.

    Args:
        card: of the encoder.
        published: where vectors are looked for first.
        journal: has the vectors of all other texts.
    """

    def __init__(self, card: EncoderCard, published: PublishedVectors, journal: VectorJournal) -> None:
        """Keep the two sources."""
        self._card = card
        self._published = published
        self._journal = journal

    def vectors_of(self, groups: TextGroups, part: slice) -> Matrix:
        """Return the (n, D) float32 unit rows, rounded to fp16, of a slice of text groups."""
        is_published, published = self._published.get(groups.keys[part])
        rows = np.empty((len(is_published), self._card.dim), np.float32)
        if is_published.any():
            rows[is_published] = published
        new = [group for group, here in zip(groups.texts[part], is_published, strict=True) if not here]
        if new:
            single = self._journal.get(text_keys([(text,) for group in new for text in group], self._card))
            counts = np.array([len(group) for group in new], np.int64)
            rows[~is_published] = rounded(unit_mean(single, counts, [group[0] for group in new]))
        return rows


def all_keys(texts: BuildTexts) -> Keys:
    """Return the keys of all rows of a build."""
    return np.concatenate([groups.keys for groups in texts.groups])


def distinct_texts(texts: BuildTexts, published: PublishedVectors | None = None) -> list[str]:
    """Return the distinct final texts of a build, without those of rows in ``published``."""
    distinct: dict[str, None] = {}
    for groups in texts.groups:
        here = published.has(groups.keys) if published is not None else np.zeros(len(groups.keys), bool)
        for group, is_here in zip(groups.texts, here, strict=True):
            if not is_here:
                distinct.update(dict.fromkeys(group))
    return list(distinct)


def encode_missing(
    texts: Sequence[str], encoder: TextEncoder, journal: VectorJournal, progress: Progress | None
) -> int:
    """Encode the texts that are not in the journal, and append their vectors to it chunk by chunk.

    Returns:
        How many texts were encoded.

    Raises:
        BadVectors: the encoder's rows are not finite unit rows of its dimension.
    """
    card = encoder.card
    if texts:
        is_here = journal.has(text_keys([(text,) for text in texts], card))
        # By length, so that an encoder pads little; then by text, so that a resumed build has the same chunks.
        texts = sorted((t for t, here in zip(texts, is_here, strict=True) if not here), key=lambda t: (len(t), t))
    if progress is not None:
        progress(0, len(texts))
    for start in range(0, len(texts), CHUNK_TEXTS):
        chunk = texts[start : start + CHUNK_TEXTS]
        vectors = check_unit_rows(encoder.encode_texts(chunk), chunk, card.dim, f"the encoder {card.name!r}")
        journal.append(text_keys([(text,) for text in chunk], card), vectors)
        if progress is not None:
            progress(start + len(chunk), len(texts))
    return len(texts)


def _prefixes(keys: Keys) -> NDArray[np.uint64]:
    """Return the first half of each key as a number, which is quicker to compare."""
    halves: NDArray[np.uint64] = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)[:, 0]
    return halves
