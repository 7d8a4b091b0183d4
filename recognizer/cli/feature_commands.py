"""Commands about stored image features: `embed`, `find` and `near-duplicates`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory.wording import counted
from recognizer.cli.app import app
from recognizer.cli.chosen_encoder import (
    EncoderOfMemoryOption,
    ModelOption,
    PretrainedOption,
    load_chosen_encoder,
)
from recognizer.cli.engine_runs import check_engine, embed_on_ray, opened_ray
from recognizer.cli.options import (
    ENCODER,
    INPUT,
    OUTPUT,
    SEARCH,
    ConfigOption,
    DeviceOption,
    Engine,
    EngineOption,
    ExcludeOption,
    ImagesArgument,
    PrecisionOption,
    RayAddressOption,
    SetOption,
)
from recognizer.cli.stored_features import features_folder
from recognizer.console import note, progress_bar, show, table

if TYPE_CHECKING:
    from recognizer.encoder import Encoder
    from recognizer.features import FeatureStore
    from recognizer.features.search import Nearest, Vector
    from recognizer.images import ImageError, Listing
    from recognizer.settings import Settings

StoreOption = Annotated[
    str,
    typer.Option(
        "--features",
        help="Folder of stored features, or its address (s3://, gs://, az://). user: a folder in your cache.",
        rich_help_panel=INPUT,
    ),
]
StoredModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Encoder, where the folder has features of several.", rich_help_panel=ENCODER),
]


@app.command()
def embed(
    images: ImagesArgument,
    features: StoreOption,
    exclude: ExcludeOption = None,
    memory: EncoderOfMemoryOption = None,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    engine: EngineOption = Engine.local,
    ray_address: RayAddressOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Encode images once and store their features, which `run`, `eval` and `calibrate` use; run it again to resume.

    Example: recognizer embed photos --features features
    """
    from recognizer.features import FeatureStore
    from recognizer.images import list_images, require_images
    from recognizer.results import RunCounts
    from recognizer.settings import load_settings

    on_ray = check_engine(engine, ray_address)
    settings = load_settings(config, overrides or [], warn=note)
    listing = list_images(images, exclude=exclude or [])
    for problem in listing.problems:
        note(f"left out: {problem.path}: {problem.reason}")
    require_images(listing, images)
    failed: Counter[str] = Counter()
    with ExitStack() as stack:
        if on_ray:
            here = load_chosen_encoder(memory, model, pretrained, device="cpu", precision="fp32")
            ray = stack.enter_context(opened_ray(ray_address, here.card, here.fit, device=device, precision=precision))
            card, encode = ray.card, partial(embed_on_ray, ray)
        else:
            encoder = load_chosen_encoder(memory, model, pretrained, device=device, precision=precision)
            card, encode = encoder.card, partial(_embed, encoder)
        stored = stack.enter_context(FeatureStore(features_folder(features), card, settings.images, warn=note))
        if not stored.writable:
            raise typer.Exit(1)
        with progress_bar(len(listing), "images", "embed") as advance:
            for errors in encode(listing, settings, stored):
                codes = [error.code for error in errors if error is not None]
                failed.update(codes)
                advance(len(errors), failed=len(codes))
    counts = RunCounts(len(listing) - failed.total(), failed)
    note(
        f"{counted(len(listing), 'image')}: {stored.encoded} encoded, {stored.found} stored before, {counts.failed} "
        f"failed{f' ({counts.reasons})' if failed else ''}; features in {stored.folder}"
    )
    for line in listing.left_out:
        note(line)
    if not stored.writable:
        raise typer.Exit(1)


def _embed(
    encoder: Encoder, listing: Listing, settings: Settings, stored: FeatureStore
) -> Iterator[Sequence[ImageError | None]]:
    """Encode images in this process; yields their errors, batch by batch."""
    from recognizer.features import encode_or_read
    from recognizer.pipeline import in_batches

    batches = in_batches(listing, settings.run.batch_size)
    for batch in encode_or_read(
        encoder, batches, features=stored, workers=settings.run.workers, limits=settings.images
    ):
        yield batch.errors


@app.command()
def find(
    features: StoreOption,
    text: Annotated[str | None, typer.Argument(help="What the images show.")] = None,
    like: Annotated[
        Path | None, typer.Option(help="An image that they resemble, instead of a text.", rich_help_panel=INPUT)
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Images per list.", rich_help_panel=OUTPUT)] = 10,
    model: StoredModelOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """List the stored images nearest to a text or an image: whole, and by the region that fits best.

    Example: recognizer find "a cup of coffee" --features features

    Example: recognizer find --like photos/kingfisher.jpg --features features
    """
    from recognizer.encoder import Encoder
    from recognizer.errors import RecognizerError
    from recognizer.features.search import StoredFolder
    from recognizer.settings import ScoreSettings

    if (text is None) == (like is None):
        raise RecognizerError("give a text or --like IMAGE, one of the two")
    if text is not None and not text.strip():
        raise RecognizerError("the text is empty; say what the images show, such as 'a bird on a branch'")
    folder = StoredFolder(features_folder(features), model=model, warn=note)
    encoder = Encoder.from_spec(folder.encoder.card.spec, device=device, precision=precision)
    if encoder.card.fingerprint != folder.encoder.card.fingerprint:
        raise RecognizerError(
            f"the weights of {encoder.card.name} have changed since the features were stored; embed the images again"
        )
    without = ""
    if like is not None:
        vector, without = _image_vector(encoder, like)
    else:
        import numpy as np

        from memory.vectors import unit_mean

        texts = [template.replace("{}", str(text)) for template in encoder.default_templates]
        vector = unit_mean(encoder.encode_texts(texts), np.array([len(texts)]), [str(text)])[0]
    near = folder.near(vector, top, least_weight=ScoreSettings().region_threshold, without=without)
    if not near.whole and not without:
        raise RecognizerError("no image whose features are stored is still where it was")
    show(table(["cosine", "image"], [_line(one) for one in near.whole], widest=200), "")
    show(table(["cosine", "region of image", "box x0,y0,x1,y1"], [_line(one) for one in near.by_region], widest=200))


@app.command("near-duplicates")
def near_duplicates(
    features: StoreOption,
    above: Annotated[
        float, typer.Option(min=0, max=1, help="Cosine above which two images are copies.", rich_help_panel=SEARCH)
    ] = 0.995,
    model: StoredModelOption = None,
) -> None:
    """Group the stored images that are copies of one another: scaled, encoded again or trimmed.

    Example: recognizer near-duplicates --features features
    """
    from recognizer.calibration.sample import copy_groups
    from recognizer.features.search import StoredFolder

    folder = StoredFolder(features_folder(features), model=model, warn=note)
    groups = folder.copies(lambda hashes, vectors: copy_groups(hashes, vectors, above=above))
    lines = [
        [str(number), f"{one.cosine:.4f}", _shown(one.path)] for number, group in enumerate(groups, 1) for one in group
    ]
    if lines:
        show(table(["group", "cosine", "image"], lines, widest=200))
    note(f"{counted(len(groups), 'group')} of copies, {counted(len(lines), 'image')}; cosine above {above:g}")


def _image_vector(encoder: Encoder, path: Path) -> tuple[Vector, str]:
    """Encode one image file; returns its vector (D,) and the hash of the file."""
    from recognizer.errors import RecognizerError
    from recognizer.images import ImageLimits, source_items
    from recognizer.pipeline import encode_batch, load

    batch = encode_batch(encoder, 0, source_items([path]), [load(encoder, path, ImageLimits())])
    if batch.features is None:
        raise RecognizerError(f"{path} cannot be used: {batch.errors[0]}")
    return batch.features.image[0], batch.hashes[0]


def _line(one: Nearest) -> list[str]:
    box = [] if one.box_xyxy is None else [",".join(f"{edge:.0f}" for edge in one.box_xyxy)]
    return [f"{one.cosine:+.4f}", _shown(one.path), *box]


def _shown(path: bytes) -> str:
    """Return a path relative to the current folder where it lies below it."""
    from recognizer.images.key import display_key

    here = os.path.join(os.getcwdb(), b"")
    return display_key(path[len(here) :] if path.startswith(here) else path)
