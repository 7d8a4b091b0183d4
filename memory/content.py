"""Hashes over what a memory was built from, by which a build sees that there is nothing to do.

The hash of the categories is the sum of a hash of each, so it does not depend on their order, and an addition or a
removal changes it by what was added or removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping

from memory.category import Category
from memory.halves import to_halves
from memory.manifest import Manifest
from memory.negatives import NegativeLabels
from memory.vectors import ExemplarSet

_MODULUS = 2**128


def content_of(
    categories: Iterable[Category], exemplars: ExemplarSet | None, negatives: NegativeLabels | None
) -> dict[str, str]:
    """Return the hashes over what a memory is built from, beside encoder and templates."""
    return {
        "categories": _text(_sum(categories)),
        "exemplars": "" if exemplars is None else _exemplar_hash(exemplars),
        "negatives": _negatives_hash(negatives),
    }


def content_after(
    content: Mapping[str, str],
    added: Iterable[Category],
    removed: Iterable[Category],
    negatives: NegativeLabels | None,
) -> dict[str, str]:
    """Return the hashes after categories were added and removed; nothing where nothing is known.

    A category whose descriptions change is removed as it was, and added as it is.
    """
    if not content:
        return {}
    total = int(content["categories"], 16) + _sum(added) - _sum(removed)
    return {**content, "categories": _text(total), "negatives": _negatives_hash(negatives)}


def is_built(published: Manifest, wanted: Manifest, intact: Collection[str]) -> bool:
    """Say whether a memory holds what would be built.

    Args:
        published: its manifest.
        wanted: the manifest of the build, whose tables and settings do not count.
        intact: tables of the memory whose files are unchanged.
    """
    one, other = (
        (each.schema, each.encoder.fingerprint, each.encoder.precision, each.encoder.dim, each.templates)
        for each in (published, wanted)
    )
    index, wanted_index = published.index, wanted.index
    same_search = index.kind == wanted_index.kind and wanted_index.fold_key in ("", index.fold_key)
    is_whole = set(published.tables) == set(intact)
    return one == other and same_search and is_whole and published.content == wanted.content


def _sum(categories: Iterable[Category]) -> int:
    return sum(int(_digest(_fields(category)), 16) for category in categories) % _MODULUS


def _fields(category: Category) -> list[object]:
    descriptions = [(each.text, each.kind, each.source) for each in category.descriptions]
    return [category.name, category.group, sorted(category.metadata.items()), category.aliases, descriptions]


def _negatives_hash(negatives: NegativeLabels | None) -> str:
    return "" if negatives is None else _digest([*negatives.names])


def _text(total: int) -> str:
    return f"{total % _MODULUS:032x}"


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def _exemplar_hash(exemplars: ExemplarSet) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([*map(list, (exemplars.category_ids, exemplars.references, exemplars.hashes))]).encode())
    digest.update(to_halves(exemplars.vectors).tobytes())
    return digest.hexdigest()
