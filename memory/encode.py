"""Vectors for the texts of a build: from the published tables, from the journal, or from the encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from memory.encoder_card import EncoderCard, TextEncoder
from memory.halves import rounded
from memory.journal import VectorJournal
from memory.manifest import TableRecord
from memory.store import TableStore
from memory.tables import VECTOR_COLUMNS, keys_and_vectors
from memory.texts import BuildTexts, Keys, TextGroups, keys_from_bytes, lookup, text_keys
from memory.vectors import Matrix, check_unit_rows, unit_mean

# Texts for the encoder, and for the disk, at a time: seconds of work, so that a kill costs seconds.
CHUNK_TEXTS = 2048

Progress = Callable[[int, int], None]
"""Called with the number of texts encoded so far, and the number to encode."""


class PublishedVectors:
    """The vectors in the published tables that a build can use again.

    Args:
        store: the tables.
        tables: those whose files are intact.
        wanted: the keys that the build needs; other vectors are not held in memory.
        dim: dimension D. Keys depend on the encoder, so tables of another encoder have none of the wanted keys.
    """

    def __init__(self, store: TableStore, tables: Mapping[str, TableRecord], wanted: Keys, dim: int) -> None:
        """Read the wanted vectors."""
        wanted = np.unique(wanted)
        in_order = np.arange(len(wanted))
        columns = [(table, pair) for table in tables for pair in VECTOR_COLUMNS.get(table, ())]
        # One block for all rows that may come; pages that are never written cost no memory.
        room = np.empty((sum(tables[table].rows for table, _ in columns), dim), np.float32)
        keys, rows = [keys_from_bytes(b"")], 0
        for table, pair in columns:
            for batch_keys, batch_vectors in keys_and_vectors(store, table, tables[table], pair):
                hits = lookup(wanted, in_order, batch_keys) >= 0
                if hits.any() and batch_vectors.shape[1] == dim:
                    keys.append(batch_keys[hits])
                    room[rows : rows + len(keys[-1])] = batch_vectors[hits]
                    rows += len(keys[-1])
        self._vectors: Matrix = room[:rows]
        self._keys: Keys = np.concatenate(keys)
        self._order = np.argsort(self._keys, kind="stable")

    def get(self, keys: Keys) -> tuple[NDArray[np.bool_], Matrix]:
        """Return for N keys (N) bool which of them are here, and the (n, D) vectors of those."""
        positions = lookup(self._keys, self._order, keys)
        is_here = positions >= 0
        return is_here, self._vectors[positions[is_here]]

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
