"""Build a memory from categories, an encoder and, optionally, example images of the categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from memory import Category, ExemplarSet, Memory, MemoryStoreError
from memory.manifest import Manifest
from memory.recovery import published_manifest
from memory.search import Fold
from memory.store import TableStore
from memory.tables import load_bare_categories
from memory.template_file import parse_templates
from memory.wording import counted
from recognizer.encoder import Encoder
from recognizer.encoder.named import NAMED
from recognizer.encoder.open_clip.catalogue import is_named_at_hand, nothing_fetched
from recognizer.encoder.open_clip.file_settings import FileSettings, explain_settings
from recognizer.encoder.starter.starter import STARTER
from recognizer.errors import RecognizerError
from recognizer.evaluation.encode import Failures, encode_labelled
from recognizer.evaluation.labelled import LabelledSet, match_labels, read_labelled
from recognizer.features import FeatureStore
from recognizer.images import ImageItem
from recognizer.settings import TERMS, ScoreSettings
from recognizer.unknown.mining import negative_labels

EXEMPLAR_WEIGHT = 0.04
"""Weight of the exemplar term in a memory with exemplars.

It is small because the term is a standard score, an order of magnitude larger than differences of cosines. On stamps of
folds 1 to 4 with one exemplar (from another set) for 37 of 344 names it raised top-1 of their photographs from 0.67 to
0.81; that of the others fell from 0.252 to 0.239."""

_DEFAULT = "base"
# The top-5 of stamps in the README's table.
_STARTER_SKILL = (
    "for trying out: it knows mostly what ImageNet shows, and of 403 names the right one is among its first five for "
    "64 % of 78 photographs"
)


def load_default_encoder(*, device: str = "auto", precision: str = "auto") -> tuple[Encoder, str]:
    """Load the encoder of a new memory for which none is named: `base` where its files are at hand, or the starter.

    Nothing is fetched.

    Args:
        device: As in `Encoder.load`.
        precision: As in `Encoder.load`.

    Returns:
        The encoder, and one line that says which it is, how good it is and how to get a better one.
    """
    base = NAMED[_DEFAULT]
    if not is_named_at_hand(base):
        encoder = Encoder.load(STARTER, device=device, precision=precision)
        gigabytes = base.parameters * 4 / 1000
        return encoder, (
            f"encoder: starter, {_STARTER_SKILL}; better: the same command with --model {base}, which downloads "
            f"{gigabytes:.1f} GB"
        )
    with nothing_fetched():
        encoder = Encoder.load(base.name, device=device, precision=precision)
    return encoder, f"encoder: {base}, from the hub cache; better: the same command with --model {NAMED['large']}"


def explain_encoder(encoder: Encoder) -> list[str]:
    """Say how images are prepared for an encoder whose weights are from a file, and what of that was assumed."""
    spec = encoder.card.spec
    if spec["kind"] != "open_clip" or "settings" not in spec:
        return []
    return explain_settings(spec["model"], spec["pretrained"], FileSettings.from_json(spec["settings"]))


def exemplar_images(categories: Sequence[Category], folder: Path | None) -> LabelledSet | None:
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
    return LabelledSet(items, [rows[name] for _, name in named], {})


def encode_exemplars(
    encoder: Encoder, categories: Sequence[Category], images: LabelledSet, *, features: FeatureStore | None = None
) -> tuple[ExemplarSet, Failures]:
    """Encode example images.

    Args:
        encoder: of the memory.
        categories: what the rows of `images` refer to.
        images: the files and their categories.
        features: stored ones, which are used and added to.

    Returns:
        The exemplars, and the images that could not be decoded.
    """
    ids: list[str] = []
    references: list[str] = []
    hashes: list[str] = []
    vectors = [np.zeros((0, encoder.card.dim), np.float32)]
    failures = Failures()
    for batch in encode_labelled(encoder, images.items, images.rows, failures, features=features):
        ids.extend(categories[row].id for row in batch.rows)
        references.extend(item.key for item in batch.items)
        hashes.extend(batch.hashes)
        vectors.append(batch.features.image)
    return ExemplarSet(ids, references, hashes, np.concatenate(vectors)), failures


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
    unknown: Literal["confidence", "negatives"] | None = None,
    features: FeatureStore | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Memory:
    """Encode the exemplars, if there are any, and build the memory.

    Args:
        categories: of the label file.
        directory: of the memory.
        encoder: what encodes.
        templates: the encoder's own where None.
        exemplars: an ImageFolder or a CSV of path and label; exemplars that the label file names are used where None.
        index: how the memory is searched.
        fine_grained: store `rerank: always` with the memory.
        unknown: negatives: store negative labels, too, which costs the encoder some thousand texts once; confidence:
            none. None: as the memory has it, or none.
        features: stored ones, which exemplars use and are added to.
        progress: called with texts encoded so far and texts to encode.
        warn: called with a sentence per image that could not be used.
    """
    images = exemplar_images(categories, exemplars)
    examples = None
    if images is not None:
        examples, failures = encode_exemplars(encoder, categories, images, features=features)
        if warn is not None:
            for item, error in failures.errors:
                warn(f"exemplar {item.key} left out: {error}")
            for label, number in images.unmatched.items():
                warn(f"{counted(number, 'exemplar')} left out: {label!r} is not a category of the label file")
    score = with_exemplars(ScoreSettings()) if examples is not None else ScoreSettings()
    before = published_manifest(directory)
    settings = _settings(score, fine_grained)
    if before is not None and examples is None and before.rows("exemplars"):
        # The stored weights include the exemplar term, so they are dropped with the exemplars.
        settings = {key: value for key, value in before.settings.items() if key != "score"} | (settings or {})
        if warn is not None:
            warn(
                f"{counted(before.rows('exemplars'), 'exemplar')} of the memory dropped; give --exemplars to keep them"
            )
    if before is not None and warn is not None:
        _warn_of_removed(directory, before, categories, warn)
        if before.encoder.fingerprint != encoder.card.fingerprint:
            warn(
                f"the memory was made by {before.encoder.name}; every text is encoded again by {encoder.card.name}, "
                "and earlier result files cannot be resumed"
            )
    kept = unknown is None and before is not None and before.rows("negatives") > 0
    return Memory.build(
        categories,
        directory,
        encoder=encoder,
        templates=templates or encoder.default_templates,
        settings=settings,
        exemplars=examples,
        negatives=negative_labels() if unknown == "negatives" or kept else None,
        index=index,
        fold=Fold(score.image_name, score.image_description),
        progress=progress,
    )


def _warn_of_removed(
    directory: Path, before: Manifest, categories: Sequence[Category], warn: Callable[[str], None]
) -> None:
    """Warn of categories that the build removes; reads ids and names only, as the vectors may be gigabytes."""
    wanted = {category.id for category in categories}
    try:
        earlier = load_bare_categories(TableStore(directory), before.tables)
    except (MemoryStoreError, RuntimeError, ValueError, OSError):
        return  # a damaged table: the build writes it anew
    removed = [category.name for category in earlier if category.id not in wanted]
    if removed:
        number = counted(len(removed), "category")
        warn(f"removed, because the label file does not hold them: {number}, such as {removed[0]!r}")


def with_exemplars(score: ScoreSettings) -> ScoreSettings:
    """Give the exemplar term its weight, taken from the others in proportion."""
    others = [weight * (1 - EXEMPLAR_WEIGHT) for weight in score.weights()]
    return score.with_weights(others).model_copy(update={"exemplar": EXEMPLAR_WEIGHT})


def read_templates(path: Path) -> tuple[str, ...]:
    """Read a file of templates: one per line, a JSON list, or the Python lists of open_clip.

    Raises:
        TemplateError: the file cannot be read, is empty, or a template has no placeholder or one of another tool.
    """
    try:
        return parse_templates(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise TemplateError(f"templates {path}: {error}") from error


def _settings(score: ScoreSettings, fine_grained: bool) -> dict[str, Any] | None:
    """Return the settings to store with the memory; None keeps those that are stored already."""
    settings: dict[str, Any] = {}
    if score != ScoreSettings():
        settings["score"] = dict(zip(TERMS, score.weights(), strict=True))
    if fine_grained:
        settings["rerank"] = "always"
    return settings or None
