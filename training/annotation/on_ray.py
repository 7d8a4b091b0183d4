"""A stage on Ray: actors decode, others hold the model; this process asks the questions and stores the answers.

Image files must be readable by all machines under the paths that they have here.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pyarrow as pa
import torch

from recognizer.engine.cluster import planned
from recognizer.engine.decoding import Decoding, decoded_images, item_table, table_items
from recognizer.engine.stages import SAID
from recognizer.engine.stream import results
from recognizer.images import DecodedImage, ImageError, ImageItem
from recognizer.results.shards import NUMBER
from training.annotation.stage import Compute, Failed, Job, Json, Outcomes, Stage, Unusable, Work, answer, prepare
from training.errors import DataError

_QUESTION, _HASH, _OUTCOME = "question", "looked_at", "outcome"
OpenStage = Callable[[str], Stage]
"""Opens a stage on a device, in the process of an actor."""


class Annotating:
    """The actor that holds the model of a stage.

    Args:
        open_stage: opens the stage; only its `prepare` and `answer` are called.
        device: of the model.
        threads: that compute, on processors.
        settings: of the stage whose results are stored.

    Raises:
        DataError: this machine has another model of that name.
    """

    def __init__(self, open_stage: OpenStage, device: str, threads: int, settings: Mapping[str, Json]) -> None:
        """Load the model."""
        torch.set_num_threads(threads)
        self._stage = open_stage(device)
        if dict(self._stage.settings) != dict(settings):
            raise DataError(
                f"the model of the stage {self._stage.name!r} is another one on {socket.gethostname()}: "
                f"{dict(self._stage.settings)} instead of {dict(settings)}; put the same files on all machines"
            )
        self._threads = ThreadPoolExecutor(threads, "prepare")

    def __call__(self, table: pa.Table) -> pa.Table:
        """Answer the questions about a batch of decoded images."""
        questions = [json.loads(text) for text in table[_QUESTION].to_pylist()]
        images = zip(table_items(table), table[_HASH].to_pylist(), questions, decoded_images(table), strict=True)
        prepared = list(self._threads.map(lambda image: self._prepared(*image), images))
        outcomes = [outcome_text(each) for each in answer(self._stage, questions, prepared)]
        empty = [""] * len(table)
        return pa.table({NUMBER: table[NUMBER], _OUTCOME: pa.array(outcomes, pa.string()), SAID: empty})

    def _prepared(self, item: ImageItem, sha256: str, question: Json, decoded: DecodedImage | ImageError) -> object:
        if isinstance(decoded, ImageError):
            return Unusable(decoded.code)
        return prepare(self._stage, item, sha256, question, decoded)


def compute_on_ray(
    address: str | None, open_stage: OpenStage, *, device: str, warn: Callable[[str], object]
) -> Compute:
    """Return what computes a stage on Ray, which is started when there is something to do.

    Args:
        address: of a cluster; None: Ray is started on this machine.
        open_stage: opens the stage in an actor.
        device: `auto` (GPUs where Ray has some), `cuda`, `cpu` or `mps`.
        warn: called with what actors say.
    """

    def compute(stage: Stage, jobs: Iterable[Job], work: Work) -> Iterator[Outcomes]:
        todo = list(jobs)
        if not todo:
            return
        with planned(address, device) as (_, workers):
            there = "cuda" if workers.encoder_gpus else "cpu" if device == "auto" else device
            found = results(
                _batches(todo, stage.batch_size),
                (Decoding, (work.limits, None, stage.target_size_hw)),
                (Annotating, (open_stage, there, workers.encoder_threads, dict(stage.settings))),
                workers,
                warn=warn,
            )
            for table in found:
                numbers, outcomes = table[NUMBER].to_pylist(), table[_OUTCOME].to_pylist()
                yield [(todo[number], outcome_of(text)) for number, text in zip(numbers, outcomes, strict=True)]

    return compute


def _batches(jobs: Sequence[Job], size: int) -> Iterator[pa.Table]:
    for start in range(0, len(jobs), size):
        batch = jobs[start : start + size]
        table = item_table(range(start, start + len(batch)), [job.item for job in batch])
        table = table.append_column(_QUESTION, pa.array([json.dumps(job.question) for job in batch], pa.string()))
        yield table.append_column(_HASH, pa.array([job.sha256 for job in batch], pa.string()))


def outcome_text(outcome: Json | Failed | Unusable) -> str:
    """Write the outcome of an image as JSON."""
    kind = type(outcome).__name__ if isinstance(outcome, Failed | Unusable) else ""
    return json.dumps([kind, asdict(outcome) if kind else outcome])


def outcome_of(text: str) -> Json | Failed | Unusable:
    """Read what `outcome_text` wrote."""
    kind, value = json.loads(text)
    return Failed(**value) if kind == "Failed" else Unusable(**value) if kind == "Unusable" else value
