"""Building a memory with its exemplars: what lies between label files and `memory.Memory.build`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from memory import Category, ExemplarSet, Memory, MemoryStoreError
from memory.manifest import Manifest, read_manifest
from memory.search import Fold
from memory.store import TableStore
from memory.templates import check_templates
from recognizer.encoder import Encoder
from recognizer.errors import RecognizerError
from recognizer.evaluation.labelled import Matched, match_labels, read_labelled
from recognizer.images import ImageItem
from recognizer.pipeline import encode_files, in_batches
from recognizer.settings import ScoreSettings

# Weight of the exemplar term in a memory with exemplars. Its values are standard scores, an order of magnitude larger
# than differences of cosines, so it is small. On stamps of folds 1 to 4 with one exemplar (from another set) for 37 of
# 344 names it raised top-1 of their photographs from 0.67 to 0.81; that of the others fell from 0.252 to 0.239.
EXEMPLAR_WEIGHT = 0.04


def exemplar_images(categories: Sequence[Category], folder: Path | None) -> Matched | None:
    """Find the example images of categories: those that the label file names, and those of a labelled folder.

    Args:
        categories: of the label file.
        folder: an ImageFolder or a CSV of path and label, or None.

    Raises:
        LabelledSetError: the folder holds nothing that fits.
    """
    if folder is not None:
        return match_labels(read_labelled(folder), categories)
    named = [(path, category.name) for category in categories for path in category.exemplars]
    if not named:
        return None
    rows = {category.name: row for row, category in enumerate(categories)}
    items = [
        ImageItem(path.encode(errors="surrogateescape"), path.encode(errors="surrogateescape")) for path, _ in named
    ]
    return Matched(items, [rows[name] for _, name in named], {})


def encode_exemplars(
    encoder: Encoder,
    categories: Sequence[Category],
    images: Matched,
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> tuple[ExemplarSet, Mapping[str, str]]:
    """Encode example images.

    Args:
        encoder: of the memory.
        categories: what the rows of `images` refer to.
        images: the files and their categories.
        batch_size: images per forward pass.
        progress: called with the number of images done since the last call.

    Returns:
        The exemplars, and the reason for each image (by key) that could not be decoded.
    """
    ids: list[str] = []
    references: list[str] = []
    hashes: list[str] = []
    vectors = [np.zeros((0, encoder.card.dim), np.float32)]
    failed: dict[str, str] = {}
    done = 0
    for batch in encode_files(encoder, in_batches(images.items, batch_size)):
        for item, error in zip(batch.items, batch.errors, strict=True):
            if error is not None:
                failed[item.key] = str(error)
        for position in batch.positions:
            ids.append(categories[images.rows[done + position]].id)
            references.append(batch.items[position].key)
        hashes.extend(batch.hashes)
        if batch.features is not None:
            vectors.append(batch.features.image)
        done += len(batch.items)
        if progress:
            progress(len(batch.items))
    return ExemplarSet(ids, references, hashes, np.concatenate(vectors)), failed


class TemplateError(RecognizerError):
    """A template file that cannot be read or has a line without a placeholder."""


def build_memory(
    categories: Sequence[Category],
    directory: Path,
    *,
    encoder: Encoder,
    templates: Sequence[str] | None = None,
    exemplars: Path | None = None,
    index: Literal["exact", "hnsw"] = "exact",
    fine_grained: bool = False,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Memory:
    """Encode exemplars, if there are any, and build the memory.

    Args:
        categories: of the label file.
        directory: of the memory.
        encoder: what encodes.
        templates: the encoder's own where None.
        exemplars: an ImageFolder or a CSV of path and label; exemplars that the label file names are used where None.
        index: how the memory is searched.
        fine_grained: store `rerank: always` with the memory.
        progress: called with texts encoded so far and texts to encode.
        warn: called with a sentence per image that could not be used.
    """
    images = exemplar_images(categories, exemplars)
    examples = None
    if images is not None:
        examples, failed = encode_exemplars(encoder, categories, images)
        if warn is not None:
            for key, reason in failed.items():
                warn(f"exemplar {key} left out: {reason}")
            for label, number in images.unmatched.items():
                warn(f"{number} exemplars left out: {label!r} is no category of the label file")
    score = with_exemplars(ScoreSettings()) if examples is not None else ScoreSettings()
    before = published_manifest(directory)
    settings = _settings(score, fine_grained)
    if before is not None and examples is None and before.rows("exemplars"):
        # Weights that counted on exemplars go with them.
        settings = {key: value for key, value in before.settings.items() if key != "score"} | (settings or {})
        if warn is not None:
            warn(f"the memory's {before.rows('exemplars')} exemplars are dropped; give --exemplars to keep them")
    if before is not None and warn is not None:
        _warn_of_removed(directory, before, categories, warn)
        if before.encoder.fingerprint != encoder.card.fingerprint:
            warn(
                f"the memory was made by {before.encoder.name}; every text is encoded anew by {encoder.card.name}, and "
                "results of before cannot be gone on with"
            )
    return Memory.build(
        categories,
        directory,
        encoder=encoder,
        templates=templates or encoder.default_templates,
        settings=settings,
        exemplars=examples,
        index=index,
        fold=Fold(score.name, score.description),
        progress=progress,
    )


def published_manifest(directory: Path) -> Manifest | None:
    """Return what the memory in a directory says of itself, None where there is none that can be read."""
    try:
        return read_manifest(directory)
    except MemoryStoreError:
        return None


def _warn_of_removed(
    directory: Path, before: Manifest, categories: Sequence[Category], warn: Callable[[str], None]
) -> None:
    """Name what the build takes out; reads ids and names only, the vectors may be gigabytes."""
    wanted = {category.id for category in categories}
    table = before.tables.get("categories")
    gone = []
    try:
        for batch in TableStore(directory).scan("categories", table, ["id", "name"]) if table else ():
            gone += [row["name"] for row in batch.to_pylist() if row["id"] not in wanted]
    except (MemoryStoreError, RuntimeError, ValueError, OSError):
        return  # a damaged table: the build writes it anew
    if gone:
        warn(f"{len(gone)} categories that the label file does not hold are removed, such as {gone[0]!r}")


def with_exemplars(score: ScoreSettings) -> ScoreSettings:
    """Give the exemplar term its weight, taken from the others in proportion."""
    name, description, region, region_name, _ = (weight * (1 - EXEMPLAR_WEIGHT) for weight in score.weights())
    return score.model_copy(
        update={
            "name": name,
            "description": description,
            "region": region,
            "region_name": region_name,
            "exemplar": EXEMPLAR_WEIGHT,
        }
    )


def read_templates(path: Path) -> tuple[str, ...]:
    """Read one template per line, empty lines left out.

    Raises:
        TemplateError: the file cannot be read, is empty, or a line has no placeholder.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        return check_templates([line.strip() for line in lines if line.strip()])
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise TemplateError(f"templates {path}: {error}") from error


def _settings(score: ScoreSettings, fine_grained: bool) -> dict[str, Any] | None:
    """Return what the memory should carry; None keeps what it carries already."""
    settings: dict[str, Any] = {}
    if score != ScoreSettings():
        settings["score"] = dict(
            zip(("name", "description", "region", "region_name", "exemplar"), score.weights(), strict=True)
        )
    if fine_grained:
        settings["rerank"] = "always"
    return settings or None
