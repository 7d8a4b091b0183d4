"""Stages: functions over batches of images, whose results are stored under all that they depend on.

`run_stage` stores each batch as a whole. `compute_here` decodes the images of the next batches in worker processes
while a batch is in the model, and yields batches in order: a run that was killed forms the same batches again from
where it stopped.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from recognizer.images import DecodedImage, ImageError, ImageItem, ImageLimits
from recognizer.images.workers import WorkerPool
from training.annotation.inputs import BareImage
from training.annotation.store import Store, key_of

Json = Any
T = TypeVar("T")
R = TypeVar("R")
# Batches whose images are being decoded while one is in the model: two keep the threads busy across a slow image.
LOOKAHEAD = 2
CHANGED = "file that changed meanwhile"
"""Why an image is left out; the next run annotates it."""
_LOOK_BATCH = 256  # images whose facts are stored in one transaction
_LOOK_SIZE_HW = (32, 32)  # a JPEG is decoded at an eighth of its size, which shows all the same whether it is whole


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no result; nothing is stored, so the next run asks again.

    Attributes:
        reason: a short constant text.
        is_last: no later batch of this run can succeed either.
    """

    reason: str
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why an image cannot be used; it is left out of the annotation.

    Attributes:
        reason: a code or a short constant text.
    """

    reason: str


class Stage(Protocol):
    """One step of the annotation."""

    @property
    def name(self) -> str:
        """Shown, and under which later stages find the results."""
        ...

    @property
    def settings(self) -> Mapping[str, Json]:
        """JSON values that all results depend on, such as model, prompt and thresholds."""
        ...

    @property
    def batch_size(self) -> int:
        """Images per call of `answer`."""
        ...

    @property
    def target_size_hw(self) -> tuple[int, int] | None:
        """Smallest size at which images may be decoded, in pixels; None: full size."""
        ...

    def question(self, image: BareImage, earlier: Mapping[str, Json]) -> Json:
        """Return what is asked about an image, a JSON value; None if there is nothing to ask.

        Args:
            image: the image with its texts.
            earlier: results of the stages before this one, by name; those that failed are missing.
        """
        ...

    def prepare(self, item: ImageItem, decoded: DecodedImage, question: Json) -> object:
        """Make the model's input of one image, on the CPU; called from several threads."""
        ...

    def answer(self, questions: Sequence[Json], prepared: Sequence[Any]) -> list[Json | Failed]:
        """Answer a batch: a JSON value for each question."""
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an image file.

    Attributes:
        sha256: of its bytes.
        displayed_size_hw: height and width in pixels, as displayed.
    """

    sha256: str
    displayed_size_hw: tuple[int, int]


@dataclass(slots=True)
class Work:
    """What the stages of one run share.

    Attributes:
        images: to annotate.
        store: of results.
        limits: of images.
        workers: decoding processes; 0: one per core.
        failures: reasons by the key of the image, for images that cannot be used.
        unanswered: how often a stage had no result, by name and reason, in this run.
        calls: batches that each stage computed in this run.
    """

    images: Sequence[BareImage]
    store: Store
    limits: ImageLimits = field(default_factory=ImageLimits)
    workers: int = 0
    failures: dict[bytes, str] = field(default_factory=dict)
    unanswered: dict[tuple[str, str], int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)

    def facts(self, item: ImageItem) -> Facts | None:
        """Return what `look` found; None for a file that cannot be used, or has changed since."""
        key = None if item.key_bytes in self.failures else _stamp_key(item)
        found = None if key is None else self.store.get(key)
        return None if found is None else Facts(found["sha256"], tuple(found["displayed_size_hw"]))

    def results(self, stages: Iterable[Stage], image: BareImage, facts: Facts) -> dict[str, Json]:
        """Return the stored results of stages, by name."""
        found: dict[str, Json] = {}
        for stage in stages:
            question = stage.question(image, found)
            key = None if question is None else _result_key(stage, facts, question)
            if key is not None and (result := self.store.get(key)) is not None:
                found[stage.name] = result
        return found

    def decoded(
        self,
        jobs: Iterable[T],
        load: Callable[[WorkerPool, T], R],
        batch_size: int,
    ) -> Iterator[list[tuple[T, R]]]:
        """Load images in threads, batch by batch and in order; `LOOKAHEAD` batches ahead of the caller."""
        workers = self.workers or os.cpu_count() or 1
        decoder, threads = WorkerPool(workers), ThreadPoolExecutor(workers, thread_name_prefix="decode")
        remaining = iter(jobs)
        waiting: deque[list[tuple[T, Future[R]]]] = deque()
        try:
            while True:
                while len(waiting) <= LOOKAHEAD and (batch := list(itertools.islice(remaining, batch_size))):
                    waiting.append([(job, threads.submit(load, decoder, job)) for job in batch])
                if not waiting:
                    return
                yield [(job, future.result()) for job, future in waiting.popleft()]
        finally:
            decoder.close()
            threads.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Job:
    """One image of a batch.

    Attributes:
        item: the image.
        sha256: of its file, as `look` found it.
        question: what is asked.
        key: under which the result is stored.
    """

    item: ImageItem
    sha256: str
    question: Json
    key: bytes


Outcomes = Sequence[tuple[Job, Json | Failed | Unusable]]
Compute = Callable[[Stage, Iterable[Job], Work], Iterator[Outcomes]]
"""Yields the outcomes of a stage, batch by batch."""


def look(work: Work, advance: Callable[[int, int], None]) -> None:
    """Read every image file once: its hash and size, and whether it can be decoded.

    A file whose path, size and time of change are known is not read again.

    Args:
        work: whose `failures` get the files that cannot be used.
        advance: called with the numbers of files that are done and that failed.
    """

    def new() -> Iterator[ImageItem]:
        for image in work.images:
            key = _stamp_key(image.item)
            if key is not None and key in work.store:
                advance(1, 0)
            else:
                yield image.item

    def load(decoder: WorkerPool, item: ImageItem) -> tuple[bytes | None, DecodedImage | ImageError]:
        key = _stamp_key(item)  # before the file is read, so that a later change is noticed
        try:
            return key, decoder.decode(item.path, limits=work.limits, target_size_hw=_LOOK_SIZE_HW)
        except ImageError as error:
            return key, error

    for batch in work.decoded(new(), load, _LOOK_BATCH):
        found: dict[bytes, Json] = {}
        for item, (key, outcome) in batch:
            if isinstance(outcome, ImageError):
                work.failures[item.key_bytes] = outcome.code
            elif key is not None:
                found[key] = {"sha256": outcome.sha256, "displayed_size_hw": outcome.displayed_size_hw}
        work.store.put(found)
        advance(len(batch), sum(isinstance(outcome, ImageError) for _, (_, outcome) in batch))


def compute_here(stage: Stage, jobs: Iterable[Job], work: Work) -> Iterator[Outcomes]:
    """Compute a stage in this process, whose workers decode."""

    def load(decoder: WorkerPool, job: Job) -> object:
        try:
            decoded = decoder.decode(job.item.path, limits=work.limits, target_size_hw=stage.target_size_hw)
        except ImageError as error:
            return Unusable(error.code)
        return prepare(stage, job.item, job.sha256, job.question, decoded)

    for batch in work.decoded(jobs, load, stage.batch_size):
        questions, prepared = [job.question for job, _ in batch], [each for _, each in batch]
        yield [(job, outcome) for (job, _), outcome in zip(batch, answer(stage, questions, prepared), strict=True)]


def prepare(stage: Stage, item: ImageItem, sha256: str, question: Json, decoded: DecodedImage) -> object:
    """Make the model's input of an image, or tell that the file has changed since it was looked at."""
    return stage.prepare(item, decoded, question) if decoded.sha256 == sha256 else Unusable(CHANGED)


def answer(stage: Stage, questions: Sequence[Json], prepared: Sequence[object]) -> list[Json | Failed | Unusable]:
    """Answer a batch but for the images that cannot be used."""
    usable = [place for place, each in enumerate(prepared) if not isinstance(each, Unusable)]
    outcomes: list[Json | Failed | Unusable] = list(prepared)
    if usable:
        answers = stage.answer([questions[place] for place in usable], [prepared[place] for place in usable])
        for place, each in zip(usable, answers, strict=True):
            outcomes[place] = each
    return outcomes


def run_stage(
    stage: Stage,
    before: Sequence[Stage],
    work: Work,
    advance: Callable[[int, int], None],
    compute: Compute = compute_here,
) -> None:
    """Compute the results of a stage that are not stored yet.

    Args:
        stage: the stage.
        before: the stages that ran before it.
        work: images, store and what failed.
        advance: called with the numbers of images that are done and that failed.
        compute: does the work.
    """
    asked: set[bytes] = set()

    def new() -> Iterator[Job]:
        for image in work.images:
            facts = work.facts(image.item)
            question = None if facts is None else stage.question(image, work.results(before, image, facts))
            key = None if facts is None or question is None else _result_key(stage, facts, question)
            if facts is None or key is None or key in asked or key in work.store:
                advance(1, 0)
            else:
                asked.add(key)
                yield Job(image.item, facts.sha256, question, key)

    for batch in compute(stage, new(), work):
        results: dict[bytes, Json] = {}
        failed: list[Failed] = []
        for job, outcome in batch:
            if isinstance(outcome, Unusable):
                work.failures[job.item.key_bytes] = outcome.reason
            elif isinstance(outcome, Failed):
                failed.append(outcome)
                reason = stage.name, outcome.reason
                work.unanswered[reason] = work.unanswered.get(reason, 0) + 1
            else:
                results[job.key] = outcome
        if results or failed:
            work.calls[stage.name] = work.calls.get(stage.name, 0) + 1
        work.store.put(results)
        advance(len(batch), len(batch) - len(results))
        if any(each.is_last for each in failed):
            return


def _stamp_key(item: ImageItem) -> bytes | None:
    """Return the key under which an unchanged file is known; None where there is no file."""
    try:
        status = os.stat(item.path)
    except OSError:
        return None
    return key_of("look", item.path.decode("latin-1"), status.st_size, status.st_mtime_ns)


def _result_key(stage: Stage, facts: Facts, question: Json) -> bytes:
    return key_of(stage.name, dict(stage.settings), facts.sha256, question)
