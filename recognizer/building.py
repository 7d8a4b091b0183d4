"""Building a memory with its exemplars: what lies between label files and `memory.Memory.build`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from memory import BuildReport, Category, Memory, MemoryStoreError
from memory.manifest import Manifest, read_manifest
from memory.store import TableStore
from memory.templates import check_templates
from recognizer.encoder import Encoder
from recognizer.errors import RecognizerError
from recognizer.exemplars import EXEMPLAR_WEIGHT, encode_exemplars, exemplar_images
from recognizer.retrieval import fold_key
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings


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
) -> BuildReport:
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
        fold=lambda vectors: Scorer.fold(vectors, score),
        fold_key=fold_key(score),
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
