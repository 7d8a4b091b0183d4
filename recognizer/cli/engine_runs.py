"""`run` and `embed` on Ray: which options go with it, and the loop with its progress bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from recognizer.cli.options import Engine, Format
from recognizer.console import note, progress_bar

if TYPE_CHECKING:
    from memory import Memory
    from memory.encoder_card import EncoderCard
    from recognizer.engine.run import Engine as RayEngine
    from recognizer.features import FeatureStore
    from recognizer.images import ImageError, Listing
    from recognizer.images.fit import Fit
    from recognizer.prior import Prior
    from recognizer.results import RunCounts, RunSetup
    from recognizer.selection import Selection
    from recognizer.settings import Settings


def check_engine(engine: Engine, address: str | None) -> bool:
    """Tell whether Ray is asked for; refuse it where it is not installed."""
    from recognizer.errors import RecognizerError

    if engine is not Engine.ray:
        if address is not None:
            raise RecognizerError("--ray-address names a cluster of Ray; give --engine ray with it")
        return False
    from recognizer.engine.cluster import require_ray

    require_ray()
    return True


def check_ray_run(
    output: str,
    format: Format | None,
    *,
    boxes: str | None,
    pictures: Path | None,
    features: str | None,
    onnx: Path | None = None,
) -> None:
    """Refuse options that do not go with Ray, before anything slow is loaded."""
    from recognizer.errors import RecognizerError
    from recognizer.results.run_files import names_file

    if output == "-" or names_file(output) or Path(output).is_file():
        raise RecognizerError(f"--engine ray writes a folder of Parquet files; give a folder as --output, not {output}")
    if format not in (None, Format.parquet):
        raise RecognizerError(f"--engine ray writes Parquet files; leave --format {format} out")
    unfit = {"--boxes": boxes, "--pictures": pictures, "--features": features, "--onnx": onnx}
    for option, value in unfit.items():
        if value is not None:
            raise RecognizerError(f"{option} does not go with --engine ray; leave one of them out")


def refuse_reranking(settings: Settings) -> None:
    """Refuse settings that ask a multimodal LLM."""
    from recognizer.errors import RecognizerError

    if settings.rerank.when != "off":
        raise RecognizerError(
            f"rerank is {settings.rerank.when!r}, which does not go with --engine ray; give --rerank off"
        )


@contextmanager
def opened_ray(address: str | None, card: EncoderCard, fit: Fit, *, device: str, precision: str) -> Iterator[RayEngine]:
    """Start Ray or join a cluster, and say what will do the work."""
    from memory.wording import counted
    from recognizer.engine.run import opened_engine

    note("starting Ray ..." if address is None else f"joining the Ray cluster at {address} ...")
    with opened_engine(address, card, fit, device=device, precision=precision) as engine:
        workers, options = engine.workers, engine.options
        note(
            f"Ray: {counted(workers.encoders, 'encoder')} on {options.device} in {options.precision}, "
            f"{counted(workers.decoders, 'decoder')}"
        )
        yield engine


def run_on_ray(
    memory: Memory,
    settings: Settings,
    listing: Listing,
    output: str,
    setup: RunSetup,
    *,
    selection: Selection | None,
    prior: Prior | None,
    address: str | None,
    device: str,
    precision: str,
    overwrite: bool,
    retry_errors: bool,
    keep_missing: bool,
) -> RunCounts:
    """Recognise a listing on Ray into a folder of Parquet files; an interrupted run is resumed."""
    from recognizer.engine.run import memory_encoder, recognize_into_shards
    from recognizer.results.shards import ShardWriter, require_continuable

    # Ray takes seconds to start, so all that can be refused is refused before.
    asked = {"device": device.partition(":")[0], "precision": precision}
    unsettled = [name for name, value in asked.items() if value == "auto"]
    setup = replace(setup, settings={**setup.settings, **{n: v for n, v in asked.items() if n not in unsettled}})
    require_continuable(output, setup, overwrite=overwrite, unsettled=unsettled)
    card, fit = memory_encoder(memory)
    with (
        opened_ray(address, card, fit, device=device, precision=precision) as engine,
        ShardWriter(
            output,
            listing.keys,
            engine.setup(setup),
            overwrite=overwrite,
            retry_errors=retry_errors,
            keep_missing=keep_missing,
            warn=note,
        ) as writer,
    ):
        if writer.done_rows:
            note(f"{writer.done_rows} of {len(listing)} images are already done")
        if writer.todo:
            only = None if selection is None else selection.rows
            with progress_bar(len(listing), "images", "recognise", done=writer.done_rows) as advance:
                for images, failed in recognize_into_shards(
                    engine, memory, settings, listing, writer, only=only, prior=prior, warn=note
                ):
                    advance(images, failed=failed)
        return writer.finish()


def embed_on_ray(
    engine: RayEngine, listing: Listing, settings: Settings, stored: FeatureStore
) -> Iterator[Sequence[ImageError | None]]:
    """Encode images on Ray; yields their errors, as they come."""
    from recognizer.engine.run import encode_into_store

    return encode_into_store(engine, settings.images, listing, stored, batch_size=settings.run.batch_size, warn=note)
