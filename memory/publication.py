"""A whole build, from the texts to the published tables and their index."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memory.build import BuildReport, MemoryWriter
from memory.category import Category
from memory.content import content_of, is_built
from memory.encode import Progress
from memory.encoder_card import TextEncoder
from memory.flat.reader import read_flat, stored_vectors
from memory.manifest import IndexRecord, Manifest, with_settings
from memory.negatives import NegativeLabels
from memory.recovery import make_room, published_manifest, reusable_columns, usable_tables
from memory.search import INDEX_FOLDER, Fold, refusal, settle_index
from memory.vectors import ExemplarSet


def build_tables(
    path: Path,
    categories: Sequence[Category],
    exemplars: ExemplarSet | None,
    *,
    encoder: TextEncoder,
    templates: tuple[str, ...],
    settings: dict[str, Any] | None,
    negatives: NegativeLabels | None,
    index: str,
    fold: Fold,
    progress: Progress | None,
) -> tuple[Manifest, BuildReport]:
    """Publish a memory of these categories alone; does nothing where it is there already. Needs the writer lock.

    Args:
        path: of the memory, prepared.
        categories: merged ones.
        exemplars: checked ones, or None.
        encoder: as for ``Memory.build``, and so are the others.
        templates: checked ones.
        settings: as JSON reads them back; None keeps those of a memory by the same encoder.
        negatives: candidates for negative labels.
        index: kind of the search.
        fold: of an approximate one.
        progress: told of the texts.
    """
    started = time.monotonic()
    before = published_manifest(path)
    tables = usable_tables(path, before)
    make_room(path, before, tables)
    content = content_of(categories, exemplars, negatives)
    version = 1 if before is None else before.version + 1
    record = IndexRecord(index, fold.key if index != "exact" else "")
    wanted = Manifest(version, encoder.card, templates, {}, {}, record, content)
    if before is not None and is_built(before, wanted, tables) and read_flat(path, before) is not None:
        descriptions, seconds = before.rows("descriptions"), time.monotonic() - started
        report = BuildReport(len(categories), descriptions, 0, 0, 0, seconds, unchanged=True)
        return with_settings(path, before, settings), report
    columns = reusable_columns(path, before, tables, encoder.card)
    with MemoryWriter(path, encoder.card.dim, tables, before, columns) as writer:
        new_tables, report = writer.replace_all(categories, exemplars, templates, encoder, progress, negatives)
        if settings is None:
            same_encoder = before is not None and before.encoder.fingerprint == encoder.card.fingerprint
            settings = dict(before.settings) if before is not None and same_encoder else {}
        manifest = replace(wanted, settings=settings, tables=new_tables, index=IndexRecord(index))
        writer.finish_copy(manifest)
        manifest = writer.publish(manifest)
    if index == "exact":
        shutil.rmtree(path / INDEX_FOLDER, ignore_errors=True)
        return manifest, report
    settled, recall = settle_index(path, stored_vectors(path, manifest), manifest, fold)
    problem = refusal(index) if settled.index.kind == "exact" else ""
    return settled, replace(report, ann_recall=recall, index_problem=problem)
