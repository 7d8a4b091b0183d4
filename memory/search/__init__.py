"""Approximate search: which categories are worth scoring, where there are too many to score all of them."""

from memory.search.choice import KINDS, IndexKind, choose_kind
from memory.search.fold import Fold, JointRows
from memory.search.kinds import StoredIndex
from memory.search.proposals import MemoryIndex, exact_index
from memory.search.settled import publish_figures, refusal, settle_index, used_index
from memory.search.stored import (
    INDEX_FOLDER,
    follow_index,
    index_is_current,
    make_index,
    open_index,
    store_figures,
    write_index,
)
from memory.search.tuning import ASKED_RECALL, NOISE

__all__ = [
    "ASKED_RECALL",
    "INDEX_FOLDER",
    "KINDS",
    "NOISE",
    "Fold",
    "IndexKind",
    "JointRows",
    "MemoryIndex",
    "StoredIndex",
    "choose_kind",
    "exact_index",
    "follow_index",
    "index_is_current",
    "make_index",
    "open_index",
    "publish_figures",
    "refusal",
    "settle_index",
    "store_figures",
    "used_index",
    "write_index",
]
