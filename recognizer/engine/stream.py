"""Batches through the actors of Ray Data: decoders, then encoders, and their results as they come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from recognizer.engine.cluster import Workers, engine_error
from recognizer.engine.stages import SAID, EncoderOptions
from recognizer.errors import RecognizerError

Stage = tuple[type, tuple[object, ...]]
"""A class of `recognizer.engine.stages` and the arguments that an actor makes it with."""
_BATCH = "batch"


class OnBatches:
    """The work of an actor on batches that travel as one row each.

    Ray cuts blocks at 128 MB, and wants to know how many rows an actor with a GPU takes at a time, for which it joins
    and cuts them, too. A row stays whole, so an image has the company that it has in a run of one process.

    Args:
        stage: what the actor makes.
        arguments: that it makes it with.
    """

    def __init__(self, stage: type, arguments: tuple[object, ...]) -> None:
        """Make it, in the process of the actor."""
        self._work: Callable[[pa.Table], pa.Table] = stage(*arguments)

    def __call__(self, row: pa.Table) -> pa.Table:
        """Do the work on the batch of one row."""
        return in_one_row(self._work(out_of_one_row(row)))


def in_one_row(batch: pa.Table) -> pa.Table:
    """Return a table of one row that holds a batch, whose bytes are copied once."""
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_table(batch)
    data = stream.getvalue()
    ends = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.table({_BATCH: pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data])})


def out_of_one_row(row: pa.Table) -> pa.Table:
    """Return the batch that `in_one_row` put there; it shares the memory."""
    return pa.ipc.open_stream(row[_BATCH][0].as_buffer()).read_all()


def results(
    batches: Iterable[pa.Table], decoding: Stage, encoding: Stage, workers: Workers, *, warn: Callable[[str], object]
) -> Iterator[pa.Table]:
    """Yield what the actors make of batches, in the order in which they finish them.

    A batch whose actor died is done again by another one; Ray hands each result over once.

    Args:
        batches: of `item_table`, at least one.
        decoding: of the actors that decode.
        encoding: of the actors that encode.
        workers: how many actors of either.
        warn: called with what an actor says, a sentence at a time, each once.

    Raises:
        EngineError: an actor failed; the message says what it raised.
    """
    import ray.data
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # errors are raised, too
    shared: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    blocks = [in_one_row(batch) for batch in batches]
    said: set[str] = set()
    try:
        found = (
            ray.data.from_arrow(blocks)
            .map_batches(
                OnBatches,
                fn_constructor_args=decoding,
                compute=ActorPoolStrategy(size=min(workers.decoders, len(blocks))),
                num_cpus=workers.decoder_cpus,
                **shared,
            )
            .map_batches(
                OnBatches,
                fn_constructor_args=encoding,
                compute=ActorPoolStrategy(size=min(workers.encoders, len(blocks))),
                num_cpus=workers.encoder_cpus,
                num_gpus=workers.encoder_gpus,
                **shared,
            )
        )
        for row in found.iter_batches(batch_size=1, batch_format="pyarrow"):
            table = out_of_one_row(row)
            lines = {line for text in table[SAID].unique().to_pylist() for line in text.splitlines()}
            for line in sorted(lines - said):
                warn(line)
            said |= lines
            yield table.drop_columns(SAID)
    except (RecognizerError, GeneratorExit):
        raise
    except Exception as error:
        raise engine_error(error) from error


def encoder_options(
    ray: Any,  # noqa: ANN401  a module without types
    spec: dict[str, Any],
    workers: Workers,
    *,
    device: str,
    precision: str,
) -> EncoderOptions:
    """Choose device and precision where the encoders will run, which may be another machine.

    Args:
        ray: the module, connected.
        spec: of the encoder's card.
        workers: of the run.
        device: as requested, which may be `auto`.
        precision: as requested, which may be `auto`.
    """
    if not workers.encoder_gpus:
        kind, number_format = _choose("cpu" if device == "auto" else device, precision)
    else:
        asked = ray.remote(_choose).options(num_gpus=workers.encoder_gpus, num_cpus=workers.encoder_cpus)
        try:
            kind, number_format = ray.get(asked.remote("cuda", precision))
        except Exception as error:
            raise engine_error(error) from error
    return EncoderOptions(spec, kind, number_format, workers.encoder_threads)


def _choose(device: str, precision: str) -> tuple[str, str]:
    from recognizer.encoder.device import choose_device, choose_precision

    chosen = choose_device(device)
    return chosen.type, choose_precision(precision, chosen)
