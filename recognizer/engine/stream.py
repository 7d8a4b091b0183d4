"""Batches through the actors of Ray Data: decoders, then encoders, and their results as they come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from recognizer.engine.cluster import Workers, engine_error
from recognizer.engine.stages import SAID, EncoderOptions
from recognizer.errors import RecognizerError

if TYPE_CHECKING:
    import pyarrow as pa

Stage = tuple[type, tuple[object, ...]]
"""A class of `recognizer.engine.stages` and the arguments that an actor makes it with."""


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
    shared: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
    blocks = list(batches)
    said: set[str] = set()
    try:
        found = (
            ray.data.from_arrow(blocks)
            .map_batches(
                decoding[0],
                fn_constructor_args=decoding[1],
                compute=ActorPoolStrategy(size=min(workers.decoders, len(blocks))),
                num_cpus=workers.decoder_cpus,
                **shared,
            )
            .map_batches(
                encoding[0],
                fn_constructor_args=encoding[1],
                compute=ActorPoolStrategy(size=min(workers.encoders, len(blocks))),
                num_cpus=workers.encoder_cpus,
                num_gpus=workers.encoder_gpus,
                **shared,
            )
        )
        for table in found.iter_batches(batch_size=None, batch_format="pyarrow"):
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
        asked = ray.remote(_choose).options(num_gpus=1, num_cpus=workers.encoder_cpus)
        try:
            kind, number_format = ray.get(asked.remote("cuda", precision))
        except Exception as error:
            raise engine_error(error) from error
    return EncoderOptions(spec, kind, number_format, workers.encoder_threads)


def _choose(device: str, precision: str) -> tuple[str, str]:
    from recognizer.encoder.device import choose_device, choose_precision

    chosen = choose_device(device)
    return chosen.type, choose_precision(precision, chosen)
