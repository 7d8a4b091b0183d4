"""Vectors for the texts of a build: from the published tables, from the journal, or from the encoder."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory.columns import MemoryColumns, StoredRows, numbers
from memory.encoder_card import EncoderCard, TextEncoder
from memory.halves import rounded
from memory.journal import VectorJournal
from memory.spool import Spool
from memory.tables import VECTOR_COLUMNS
from memory.texts import KEY_BYTES, Keys, TextGroups, keys_from_bytes, lookup
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
        wanted: the texts that the build needs; keys of others are not held in memory.
    """

    def __init__(self, columns: MemoryColumns | None, wanted: Iterable[TextGroups]) -> None:
        """Look for the wanted keys."""
        tables = {} if columns is None else columns.tables
        parts = (_prefixes(groups.keys) for groups in wanted) if tables else ()
        prefixes = np.unique(np.concatenate([np.empty(0, np.uint64), *parts]))
        self._sources: list[StoredRows] = []
        keys, places, sources = [keys_from_bytes(b"")], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
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

    def vectors_of(self, groups: TextGroups) -> Matrix:
        """Return the (n, D) float32 unit rows, rounded to fp16, of n text groups."""
        is_published, published = self._published.get(groups.keys)
        rows = np.empty((len(is_published), self._card.dim), np.float32)
        if is_published.any():
            rows[is_published] = published
        missing = np.flatnonzero(~is_published)
        if len(missing):
            new = TextGroups([groups.texts[row] for row in missing.tolist()], groups.keys[missing])
            single = self._journal.get(new.single_keys(self._card))
            counts = np.array([len(group) for group in new.texts], np.int64)
            rows[missing] = rounded(unit_mean(single, counts, [group[0] for group in new.texts]))
        return rows


class DistinctTexts:
    """The N distinct final texts of a build, sorted by key; they wait on the disk.

    Attributes:
        keys: (N) of the texts.
        lengths: (N) int32 number of characters.
        is_missing: (N) bool whether a row that has the text is not in the published tables.
        are_averaged: whether a row has several texts, so that vectors must not be rounded before their mean is taken.

    Args:
        texts: of the build.
        published: rows of the memory that can be used again.
        card: of the encoder.
        folder: on whose disk the texts wait.
    """

    def __init__(
        self, texts: Iterable[TextGroups], published: PublishedVectors, card: EncoderCard, folder: Path
    ) -> None:
        """Write the texts to a temporary file.

        Raises:
            WriteFailed: the disk refuses.
        """
        self._spool = Spool(folder)
        self.are_averaged = False
        keys, lengths, missing = bytearray(), array("i"), bytearray()
        for groups in texts:
            keys += groups.single_keys(card).tobytes()
            for group, is_here in zip(groups.texts, published.has(groups.keys).tolist(), strict=True):
                self.are_averaged = self.are_averaged or len(group) > 1
                for text in group:
                    self._spool.append(text.encode())
                    lengths.append(len(text))
                    missing.append(not is_here)
        every = keys_from_bytes(memoryview(keys))
        order = np.argsort(every, kind="stable")
        is_first = np.ones(len(order), bool)
        is_first[1:] = every[order[1:]] != every[order[:-1]]
        self._places: NDArray[np.int64] = order[is_first]
        self.keys: Keys = every[self._places]
        self.lengths = np.frombuffer(lengths, np.int32)[self._places]
        own = np.frombuffer(missing, bool)[order]
        self.is_missing = np.logical_or.reduceat(own, np.flatnonzero(is_first)) if len(own) else own

    def __len__(self) -> int:
        """Return N."""
        return len(self.keys)

    def texts(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the texts of some rows."""
        return [data.decode() for data in self._spool.read(self._places[rows].tolist())]

    def count_truncated(self, encoder: TextEncoder) -> int:
        """Return how many are longer than the encoder reads."""
        return sum(encoder.count_truncated(self.texts(part)) for part in _parts(np.arange(len(self))))


def encode_missing(
    distinct: DistinctTexts, encoder: TextEncoder, journal: VectorJournal, progress: Progress | None
) -> int:
    """Encode the missing texts that are not in the journal, and append their vectors to it chunk by chunk.

    Returns:
        How many texts were encoded.

    Raises:
        BadVectors: the encoder's rows are not finite unit rows of its dimension.
    """
    card = encoder.card
    rows = np.flatnonzero(distinct.is_missing & ~journal.has(distinct.keys))
    # By length, so that an encoder pads little; then by key, so that a resumed build has the same chunks.
    rows = rows[np.argsort(distinct.lengths[rows], kind="stable")]
    if progress is not None:
        progress(0, len(rows))
    encoded = 0
    for part in _parts(rows):
        texts = distinct.texts(part)
        vectors = check_unit_rows(encoder.encode_texts(texts), texts, card.dim, f"the encoder {card.name!r}")
        journal.append(distinct.keys[part], vectors)
        encoded += len(part)
        if progress is not None:
            progress(encoded, len(rows))
    return encoded


def _parts(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), CHUNK_TEXTS):
        yield rows[start : start + CHUNK_TEXTS]


def _prefixes(keys: Keys) -> NDArray[np.uint64]:
    """Return the first half of each key as a number, which is quicker to compare."""
    halves: NDArray[np.uint64] = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)[:, 0]
    return halves
