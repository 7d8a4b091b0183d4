"""Build a memory from categories, an encoder and, optionally, example images of the categories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from memory import Category, Memory, MemoryStoreError
from memory.flat.reader import stored_columns
from memory.manifest import Manifest
from memory.recovery import published_manifest
from memory.remote.memory import local_copy
from memory.search import Fold, IndexKind
from memory.search.choice import EXACT_CATEGORIES
from memory.template_file import parse_templates
from memory.vectors import Matrix
from memory.wording import counted
from recognizer.agreement import make_retriever
from recognizer.encoder import Encoder
from recognizer.encoder.named import NAMED
from recognizer.encoder.open_clip.catalogue import is_named_at_hand, nothing_fetched
from recognizer.encoder.open_clip.file_settings import FileSettings, explain_settings
from recognizer.encoder.starter.starter import STARTER
from recognizer.errors import RecognizerError
from recognizer.exemplar_files import encode_exemplars, exemplar_images, known_vectors, warnings_about
from recognizer.exemplars import store_head
from recognizer.features import FeatureStore
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings
from recognizer.unknown.mining import negative_labels

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


class TemplateError(RecognizerError):
    """A template file that cannot be read or has a line without a placeholder."""


def build_memory(
    categories: Sequence[Category],
    directory: str | Path,
    *,
    encoder: Encoder,
    templates: Sequence[str] | None = None,
    exemplars: Path | None = None,
    index: IndexKind | Literal["auto"] = "exact",
    fine_grained: bool = False,
    unknown: Literal["confidence", "negatives"] | None = None,
    features: FeatureStore | None = None,
    progress: Callable[[int, int], None] | None = None,
    step: Callable[[str], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Memory:
    """Encode the exemplars, if there are any, and build the memory.

    Args:
        categories: of the label file.
        directory: of the memory, or its address.
        encoder: what encodes.
        templates: the encoder's own where None.
        exemplars: an ImageFolder or a CSV of path and label; exemplars that the label file names are used where None.
        index: how the memory is searched.
        fine_grained: store `rerank: always` with the memory.
        unknown: negatives: store negative labels, too, which costs the encoder some thousand texts once; confidence:
            none. None: as the memory has it, or none.
        features: stored ones, which exemplars use and are added to.
        progress: called with texts encoded so far and texts to encode.
        step: called with what comes next, where that takes seconds and has no progress of its own.
        warn: called with a sentence per image that could not be used.
    """
    here = local_copy(directory)
    before = published_manifest(here)
    images = exemplar_images(categories, exemplars)
    examples = None
    if images is not None:
        known = _known_vectors(here, before, encoder)
        read = encode_exemplars(encoder, categories, images, known=known, features=features)
        examples = read.exemplars
        if warn is not None:
            for sentence in read.problems:
                warn(sentence)
    if before is not None and examples is None and before.rows("exemplars") and warn is not None:
        warn(f"{counted(before.rows('exemplars'), 'exemplar')} of the memory dropped; give --exemplars to keep them")
    if before is not None and warn is not None:
        _warn_of_removed(here, before, categories, warn)
        if before.encoder.fingerprint != encoder.card.fingerprint:
            warn(
                f"the memory was made by {before.encoder.name}; every text is encoded again by {encoder.card.name}, "
                "and earlier result files cannot be resumed"
            )
    score = ScoreSettings()
    stored = before.settings if before is not None and before.encoder.fingerprint == encoder.card.fingerprint else {}
    had_negatives = before is not None and before.rows("negatives") > 0
    with_negatives = unknown == "negatives" or (unknown is None and had_negatives)
    with_index = len(categories) > EXACT_CATEGORIES if index == "auto" else index != "exact"

    def follow(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total)
        if step is not None and with_index and done >= total:
            step("building the index")

    built = Memory.build(
        categories,
        directory,
        encoder=encoder,
        templates=templates or encoder.default_templates,
        settings={**stored, "rerank": "always"} if fine_grained else None,
        exemplars=examples,
        negatives=negative_labels() if with_negatives else None,
        index=index,
        fold=Fold(score.image_name, score.image_description, score.region_name, score.region_description),
        progress=follow,
    )
    store_head(built)
    if built.report.index_problem and warn is not None:
        warn(built.report.index_problem)
    if built.index_kind != "exact":
        if step is not None and not built.report.unchanged:
            step("measuring the index")
        temperature = score.temperature or encoder.default_temperature
        make_retriever(built, Scorer(built.vectors, score), temperature=temperature, approximate=True)
    if examples is not None and warn is not None:
        for sentence in warnings_about(built.vectors):
            warn(sentence)
    return built


def explain_index(memory: Memory) -> str:
    """Say how a memory that was just built with the index `auto` is searched, and why."""
    number = counted(memory.report.categories, "category")
    if memory.report.index_problem:
        return f"search: exact, because the index that auto chose for {number} finds too little"
    reasons = {
        "exact": f"up to {EXACT_CATEGORIES:,}, comparing an image with all of them takes less time than encoding it",
        "ivf": f"for more than {EXACT_CATEGORIES:,} its lists are the fastest, and they fit in half of the RAM",
        "lance": "it is read from the disk, and the lists of ivf would fill more than half of the RAM",
    }
    return f"search: {memory.index_kind}, chosen by auto for {number}: {reasons[memory.index_kind]}"


def _known_vectors(directory: Path, before: Manifest | None, encoder: Encoder) -> dict[str, Matrix]:
    """Return the vectors of exemplars that the memory has of this encoder; none of one that is damaged."""
    if before is None or not before.rows("exemplars") or before.encoder.fingerprint != encoder.card.fingerprint:
        return {}
    try:
        return known_vectors(Memory.open(directory).vectors)
    except (MemoryStoreError, RuntimeError, ValueError, OSError):
        return {}


def _warn_of_removed(
    directory: Path, before: Manifest, categories: Sequence[Category], warn: Callable[[str], None]
) -> None:
    """Warn of categories that the build removes; reads ids and names only, as the vectors may be gigabytes."""
    wanted = np.fromiter((int(category.id, 16) for category in categories), np.uint64)
    try:
        columns = stored_columns(directory, before, ("categories",))
    except (MemoryStoreError, RuntimeError, ValueError, OSError):
        return  # a damaged table: the build writes it anew
    removed = np.flatnonzero(~np.isin(columns.category_ids(), wanted))
    if len(removed):
        name, number = columns.categories(bare=True).names[int(removed[0])], counted(len(removed), "category")
        warn(f"removed, because the label file does not hold them: {number}, such as {name!r}")


def read_templates(path: Path) -> tuple[str, ...]:
    """Read a file of templates: one per line, a JSON list, or the Python lists of open_clip.

    Raises:
        TemplateError: the file cannot be read, is empty, or a template has no placeholder or one of another tool.
    """
    try:
        return parse_templates(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise TemplateError(
            f"templates {path}: this is no text in UTF-8; give a file with a template on each line"
        ) from error
    except OSError as error:
        raise TemplateError(f"templates {path}: {error.strerror}; check the path and its permissions") from error
    except ValueError as error:
        raise TemplateError(f"templates {path}: {error}") from error
