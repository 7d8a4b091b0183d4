"""Vectors for final texts: taken from the published tables, from the journal, or from the encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from memory.encoder_card import EncoderCard, TextEncoder
from memory.journal import VectorJournal
from memory.manifest import TableRecord
from memory.plan import Keys, Plan, TextGroups, keys_from_bytes, lookup, text_keys
from memory.store import TableStore
from memory.tables import VECTOR_COLUMNS, keys_and_vectors
from memory.vectors import Matrix, check_unit_rows, unit_mean

CHUNK_TEXTS = 2048
"""Texts handed to the encoder, and brought to the disk, at a time."""

Progress = Callable[[int, int], None]


class PublishedVectors:
    """The stored vectors that a plan can use again.

    Args:
        store: the tables.
        tables: the intact ones among them.
        wanted: keys that are worth keeping.
        dim: dimension D; tables of another encoder have other keys, so none of theirs is found.
    """

    def __init__(self, store: TableStore, tables: Mapping[str, TableRecord], wanted: Keys, dim: int) -> None:
        """Read the wanted vectors."""
        wanted = np.unique(wanted)
        in_order = np.arange(len(wanted))
        columns = [(table, pair) for table in tables for pair in VECTOR_COLUMNS.get(table, ())]
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

    def get(self, keys: Keys) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], Matrix]:
        """Return for N keys which are here, (N) bool, and the (n, D) vectors of those that are."""
        positions = lookup(self._keys, self._order, keys)
        found = positions >= 0
        return found, self._vectors[positions[found]]

    def has(self, keys: Keys) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return for N keys which are here, (N) bool."""
        return lookup(self._keys, self._order, keys) >= 0


class VectorSource:
    """Gives the stored vector of each text group of a plan, once everything missing has been encoded."""

    def __init__(self, card: EncoderCard, published: PublishedVectors, journal: VectorJournal) -> None:
        """Take the places to look, in this order."""
        self._card = card
        self._published = published
        self._journal = journal

    def vectors_of(self, groups: TextGroups, part: slice) -> Matrix:
        """Return the (n, D) float32 unit rows of a slice of text groups."""
        found, known = self._published.get(groups.keys[part])
        rows = np.empty((len(found), self._card.dim), np.float32)
        rows[found] = known
        texts = [group for group, here in zip(groups.texts[part], found, strict=True) if not here]
        if texts:
            single = self._journal.get(text_keys([(text,) for group in texts for text in group], self._card))
            counts = np.array([len(group) for group in texts], np.int64)
            rows[~found] = unit_mean(single, counts, [group[0] for group in texts])
        return rows


def plan_keys(plan: Plan) -> Keys:
    """Return the keys of all rows of a plan."""
    return np.concatenate((plan.names.keys, plan.grounded.keys, plan.bare.keys))


def plan_texts(plan: Plan, published: PublishedVectors | None = None) -> dict[str, None]:
    """Return the distinct final texts of a plan; with ``published``, only of the rows that are not there."""
    texts: dict[str, None] = {}
    for groups in (plan.names, plan.grounded, plan.bare):
        here = published.has(groups.keys) if published is not None else np.zeros(len(groups.keys), bool)
        for group, is_here in zip(groups.texts, here, strict=True):
            if not is_here:
                texts.update(dict.fromkeys(group))
    return texts


def encode_missing(
    texts: Sequence[str], encoder: TextEncoder, journal: VectorJournal, progress: Progress | None
) -> int:
    """Encode the texts that the journal does not hold, in fixed chunks, and write each chunk to it.

    Returns:
        How many texts were encoded.

    Raises:
        BadVectors: the encoder's rows are not finite unit rows of its dimension.
    """
    card = encoder.card
    if texts:
        held = journal.find(text_keys([(text,) for text in texts], card))
        texts = sorted((t for t, here in zip(texts, held, strict=True) if not here), key=lambda t: (len(t), t))
    if progress is not None:
        progress(0, len(texts))
    for start in range(0, len(texts), CHUNK_TEXTS):
        chunk = texts[start : start + CHUNK_TEXTS]
        vectors = check_unit_rows(encoder.encode_texts(chunk), chunk, card.dim, f"the encoder {card.name!r}")
        journal.append(text_keys([(text,) for text in chunk], card), vectors)
        if progress is not None:
            progress(start + len(chunk), len(texts))
    return len(texts)
