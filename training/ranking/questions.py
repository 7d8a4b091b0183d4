"""Questions that teach a multimodal LLM to rank candidates, after RAR (arXiv 2403.13805, section 3.4).

For each labelled image the nearest categories are retrieved, without exemplars that are the image itself, and windows
of k slide over them. Windows that contain the true category become questions with shuffled options; the answer is the
true category, then the others in the order of retrieval. A hash of its name assigns each category to the train or the
held-out part, and a question has categories of one part only, so that the held-out part measures new categories.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from memory import Category
from memory.templates import bare_text
from recognizer.errors import RecognizerError
from recognizer.evaluation.encode import Failures, encode_labelled
from recognizer.evaluation.labelled import LabelledSet
from recognizer.recognizer import Recognizer
from rerank.base import Candidate
from rerank.mllm import MOST_OPTIONS, SYMBOLS
from rerank.prompt import DESCRIPTION_CHARACTERS, NAME_CHARACTERS, choice_text, list_text, shown
from training.ranking.formats import PARTS, Part, Sample, without_tags, write_formats

Mode = Literal["list", "choice"]

DESCRIPTIONS = 3  # per option, as in `rerank.descriptions`
NOT_RETRIEVED = "the true category is not among the neighbours"
TOO_FEW = "fewer neighbours than options"
NO_TRUTH = "a window without the true category"
ALIKE = "options that look alike"
NOT_UTF8 = "a path that is not UTF-8"


class RankingDataError(RecognizerError):
    """The numbers allow no question, or no image gave one."""


@dataclass(frozen=True, slots=True)
class RankingDataReport:
    """What was written and what was left out.

    Attributes:
        images: number of labelled images.
        groups: number of questions per part.
        categories: number of categories of the memory per part.
        skipped_images: number of images without a question, by reason; an error code if an image could not be decoded.
        skipped_groups: number of windows without a question, by reason.
        files: the files written.
    """

    images: int
    groups: Mapping[Part, int]
    categories: Mapping[Part, int]
    skipped_images: Mapping[str, int]
    skipped_groups: Mapping[str, int]
    files: Sequence[Path]


def write_ranking_data(
    recognizer: Recognizer,
    labelled: LabelledSet,
    output: Path,
    *,
    k: int = 5,
    neighbours: int = 20,
    held_out: float = 0.2,
    mode: Mode = "list",
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> RankingDataReport:
    """Write questions about labelled images, in every format of `training.ranking.formats`.

    Args:
        recognizer: encoder, memory and settings.
        labelled: images with the rows of their categories.
        output: folder.
        k: number of options of a question.
        neighbours: number of nearest categories of the true category's part, over which windows slide; 20 and k = 5
            make 16 windows.
        held_out: share of the categories in the held-out part; 0: none.
        mode: form of the answer; `list`: a sorted list of names; `choice`: the letter of the true option, k up to 20.
        seed: of the parts and of the shuffling.
        progress: called with the number of images done since the last call.

    Raises:
        RankingDataError: there is no question; the message says why.
        OutputUnusable: the output cannot be written.
    """
    _check(k, neighbours, held_out, mode)
    categories = recognizer.memory.vectors.categories
    parts = [part_of(category.name, held_out, seed) for category in categories]
    samples: dict[Part, list[Sample]] = {part: [] for part in PARTS}
    skipped_images, skipped_groups = Counter[str](), Counter[str]()
    for image in _neighbours(recognizer, labelled, parts, neighbours, skipped_images, progress):
        if image.truth not in image.nearest:
            skipped_images[NOT_RETRIEVED] += 1
            continue
        if len(image.nearest) < k:
            skipped_images[TOO_FEW] += 1
            continue
        for number, window in enumerate(windows(image.nearest, k)):
            if image.truth not in window:
                skipped_groups[NO_TRUTH] += 1
                continue
            ranked = [image.truth, *(row for row in window if row != image.truth)]
            options = [_option(categories[row]) for row in ranked]
            if len({shown(option.title, NAME_CHARACTERS).casefold() for option in options}) < k:
                skipped_groups[ALIKE] += 1
                continue
            order = random.Random(f"{seed} {image.key} {number}")
            samples[parts[image.truth]].append(_sample(image.path, options, mode, order))
    if not any(samples.values()):
        raise RankingDataError(
            f"none of {len(labelled.items)} images gave a question of {k} options: "
            f"{dict(skipped_images + skipped_groups)}; choose more images, or fewer options"
        )
    return RankingDataReport(
        images=len(labelled.items),
        groups={part: len(questions) for part, questions in samples.items()},
        categories={part: parts.count(part) for part in PARTS},
        skipped_images=dict(skipped_images),
        skipped_groups=dict(skipped_groups),
        files=write_formats(samples, output),
    )


def part_of(name: str, held_out: float, seed: int) -> Part:
    """Assign a category to a part by its name alone, so that adding categories moves none."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return "held_out" if int.from_bytes(digest[:8], "big") < held_out * 2**64 else "train"


def windows(rows: Sequence[int], k: int) -> list[Sequence[int]]:
    """Return every k consecutive rows: len(rows) - k + 1 windows."""
    return [rows[first : first + k] for first in range(len(rows) - k + 1)]


def answer_list(names: Sequence[str]) -> str:
    """Write names as the prompt asks for them: a Python list of strings, which `rerank.parse` reads back."""
    return str([shown(name, NAME_CHARACTERS) for name in names])


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """The nearest categories of one image in the part of its true category, as rows, best first."""

    key: str
    path: str
    truth: int
    nearest: Sequence[int]


def _check(k: int, neighbours: int, held_out: float, mode: Mode) -> None:
    if not 2 <= k <= neighbours:
        raise RankingDataError(f"k={k} options do not fit {neighbours} neighbours; choose 2 <= k <= neighbours")
    if mode == "choice" and k > MOST_OPTIONS:
        raise RankingDataError(f"k={k} options are more than the {MOST_OPTIONS} letters of mode 'choice'")
    if not 0 <= held_out < 1:
        raise RankingDataError(f"held_out={held_out} is not a share of the categories; choose 0 <= held_out < 1")


def _neighbours(
    recognizer: Recognizer,
    labelled: LabelledSet,
    parts: Sequence[Part],
    count: int,
    skipped: Counter[str],
    progress: Callable[[int], None] | None,
) -> Iterator[_Neighbours]:
    """Encode the images and retrieve for each the `count` nearest categories of its truth's part."""
    share = {part: max(parts.count(part), 1) / len(parts) for part in PARTS}
    # Twice as deep as the part's share needs on average; the memory's whole length for few categories.
    depth = min(len(parts), math.ceil(2 * count / min(share[part] for part in set(parts))))
    failures = Failures()
    for batch in encode_labelled(
        recognizer.encoder,
        labelled.items,
        labelled.rows,
        failures,
        settings=recognizer.settings,
        progress=progress,
    ):
        retrieved = recognizer.retriever.retrieve(batch.features, depth, exclude=batch.hashes)
        for item, truth, best in zip(batch.items, batch.rows.tolist(), retrieved, strict=True):
            path = os.path.abspath(os.fsdecode(item.path))
            if not _is_utf8(path):
                skipped[NOT_UTF8] += 1
                continue
            same = [row for row in best.rows.tolist() if parts[row] == parts[truth]]
            yield _Neighbours(item.key, path, truth, same[:count])
    skipped.update(failures.by_code())


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _option(category: Category) -> Candidate:
    texts = (bare_text(category, description) for description in category.descriptions[:DESCRIPTIONS])
    return Candidate(
        without_tags(category.name, NAME_CHARACTERS),
        tuple(without_tags(text, DESCRIPTION_CHARACTERS) for text in texts),
        without_tags(category.group, NAME_CHARACTERS),
    )


def _sample(path: str, ranked: Sequence[Candidate], mode: Mode, order: random.Random) -> Sample:
    """Make a question from options in the order of the answer."""
    options = list(ranked)
    order.shuffle(options)
    if mode == "choice":
        return Sample(path, choice_text(options, descriptions=DESCRIPTIONS), SYMBOLS[options.index(ranked[0])])
    return Sample(path, list_text(options), answer_list([option.title for option in ranked]))
