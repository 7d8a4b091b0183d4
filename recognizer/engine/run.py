"""Recognise or encode the images of a listing on Ray, and write what comes back in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from memory.encoder_card import EncoderCard
from memory.remote.address import is_address
from recognizer.encoder import Encoder
from recognizer.engine.cluster import Workers, planned
from recognizer.engine.decoding import Decoding, item_table
from recognizer.engine.stages import EncoderOptions, Encoding, Recognizing
from recognizer.engine.stream import encoder_options, results
from recognizer.features.stored_image import StoredFailure, from_table
from recognizer.images import ImageError, ImageItem, ImageLimits
from recognizer.images.fit import Fit
from recognizer.results.shards import NUMBER, ShardWriter
from recognizer.settings import Settings

if TYPE_CHECKING:
    from memory import Memory
    from recognizer.features import FeatureStore
    from recognizer.features.store import Known
    from recognizer.prior import Prior
    from recognizer.results import RunSetup
    from recognizer.score import Rows

Done = Iterator[tuple[int, int]]
"""How many images were just done, and how many of them failed."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Ray, connected, with a plan.

    Attributes:
        workers: the actors of each run.
        options: how they load the encoder.
        card: of the encoder, as they compute it.
        fit: how images get into its input.
    """

    workers: Workers
    options: EncoderOptions
    card: EncoderCard
    fit: Fit

    def setup(self, setup: RunSetup) -> RunSetup:
        """Return the description of a run on the device of the actors."""
        settings = {**setup.settings, "device": self.options.device, "precision": self.options.precision}
        return replace(setup, settings=settings, device=self.options.device)


def memory_encoder(memory: Memory) -> tuple[EncoderCard, Fit]:
    """Load the encoder of a memory here for a moment, to see that it is there and how images get into its input.

    Raises:
        EncoderError: it cannot be loaded.
        EncoderMismatch: the memory was built by another encoder.
    """
    encoder = Encoder.from_spec(memory.encoder.spec, device="cpu", precision="fp32")
    memory.require_encoder(encoder.card)
    return encoder.card, encoder.fit


@contextmanager
def opened_engine(address: str | None, card: EncoderCard, fit: Fit, *, device: str, precision: str) -> Iterator[Engine]:
    """Start Ray or join a cluster, and plan a run of an encoder there.

    Args:
        address: of the cluster; None: Ray is started on this machine.
        card: of the encoder.
        fit: how images get into its input.
        device: `auto` (GPUs where Ray has some), `cuda`, `cpu` or `mps`.
        precision: `auto`, `fp32` or `bf16`.

    Raises:
        EngineError: Ray is missing, cannot be reached, or has nothing to compute with.
    """
    with planned(address, device) as (ray, workers):
        options = encoder_options(ray, dict(card.spec), workers, device=device, precision=precision)
        yield Engine(workers, options, replace(card, precision=options.precision), fit)


def recognize_into_shards(
    engine: Engine,
    memory: Memory,
    settings: Settings,
    items: Sequence[ImageItem],
    writer: ShardWriter,
    *,
    only: Rows | None = None,
    prior: Prior | None = None,
    warn: Callable[[str], object],
) -> Done:
    """Recognise the pending images of a folder of results, and yield how many are done, as they come.

    Args:
        engine: does the work.
        memory: the categories; its directory or object store must be readable by all machines.
        settings: of the run.
        items: all images of the run; their files must be readable by all machines.
        writer: an open output; the caller finishes it.
        only: rows of the categories that compete; None: all.
        prior: of the categories; None: all are equally common.
        warn: receives what the actors say.

    Raises:
        EncoderMismatch: the memory was built by another encoder.
        EngineError: an actor failed.
        OutputUnusable: the disk refuses.
    """
    memory.require_encoder(engine.card)
    place = memory.location if is_address(memory.location) else os.path.abspath(memory.location)
    found = results(
        _batches(items, writer.todo, settings.run.batch_size),
        (Decoding, (settings.images, engine.fit)),
        (Recognizing, (place, engine.options, settings, only, prior)),
        engine.workers,
        warn=warn,
    )
    for table in found:
        yield writer.write(table)


def encode_into_store(
    engine: Engine,
    limits: ImageLimits,
    items: Sequence[ImageItem],
    store: FeatureStore,
    *,
    batch_size: int,
    warn: Callable[[str], object],
) -> Iterator[Sequence[ImageError | None]]:
    """Encode the images whose features are not stored, store them, and yield the errors of those that are done.

    Args:
        engine: does the work.
        limits: of each image.
        items: the images.
        store: takes the features; this process alone writes.
        batch_size: images per block.
        warn: receives what the actors say.

    Raises:
        EngineError: an actor failed.
    """
    todo: list[int] = []
    known: dict[int, Known] = {}
    for start in range(0, len(items), batch_size):
        numbers = range(start, min(start + batch_size, len(items)))
        looked_up = dict(zip(numbers, store.look_up([items[number] for number in numbers]), strict=True))
        stored = [one.stored for one in looked_up.values() if one.stored is not None]
        yield [ImageError(one.code, one.reason) if isinstance(one, StoredFailure) else None for one in stored]
        new = {number: one for number, one in looked_up.items() if one.stored is None}
        todo += list(new)
        known |= new
    if not todo:
        return
    found = results(
        _batches(items, todo, batch_size),
        (Decoding, (limits, engine.fit)),
        (Encoding, (engine.options,)),
        engine.workers,
        warn=warn,
    )
    for table in found:
        numbers = table[NUMBER].to_pylist()
        outcomes = [
            ImageError(one.code, one.reason) if isinstance(one, StoredFailure) else one
            for one in from_table(table.drop_columns(NUMBER))
        ]
        store.keep_outcomes([items[number] for number in numbers], outcomes, [known.pop(number) for number in numbers])
        yield [one if isinstance(one, ImageError) else None for one in outcomes]


def _batches(items: Sequence[ImageItem], todo: Sequence[int], batch_size: int) -> Iterator[Any]:
    for start in range(0, len(todo), batch_size):
        numbers = todo[start : start + batch_size]
        yield item_table(numbers, [items[number] for number in numbers])
