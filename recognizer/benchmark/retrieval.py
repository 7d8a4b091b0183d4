"""Retrieval of images by captions and of captions by images: R@1, R@5 and R@10 on Karpathy's splits.

The usual protocol of Flickr30k and COCO (Karpathy & Fei-Fei, arXiv 1412.2306): all images of a split against five
captions of each, with the captions as they are, without a template. An image is found by its caption, or an image
finds one of its captions, among the first k. An image with vector g and regions r_q and a caption t score

    whole image     <g, t>
    with regions    alpha <g, t> + (1 - alpha) max_q <r_q, t>
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memory.index import inner_products
from memory.wording import counted
from recognizer.benchmark.bench import Bench, LayoutError, contents
from recognizer.benchmark.table import BenchmarkRow, BenchmarkTable
from recognizer.benchmark.zero_shot import ALPHA
from recognizer.console import note
from recognizer.evaluation.metrics import truth_ranks
from recognizer.images import ImageItem
from recognizer.score import CHUNK_ROWS, Floats, max_over_regions, visible_regions

CAPTIONS = 5
"""Captions of an image that count; COCO has six or seven of some."""
_CUTS = (1, 5, 10)
# Where images lie beside the JSON file, for messages and in this order.
_FOLDERS = ("", "images", "flickr30k-images", "flickr8k-images", "Images")
EXPECTED = (
    "dataset_flickr30k.json or dataset_coco.json of Karpathy's splits, with the images in flickr30k-images/, images/ "
    "or beside it (COCO's in val2014/ and train2014/)"
)


@dataclass(frozen=True, slots=True, eq=False)
class Captioned:
    """The images of a split with their captions.

    Attributes:
        name: of the data set.
        items: (N) the images.
        captions: (N) of each, one to `CAPTIONS`.
    """

    name: str
    items: Sequence[ImageItem]
    captions: Sequence[Sequence[str]]


def retrieval(
    bench: Bench,
    data: Path,
    *,
    images: Path | None = None,
    split: Literal["test", "val", "train"] = "test",
    alpha: float = ALPHA,
) -> BenchmarkTable:
    """Measure R@1, R@5 and R@10 in both directions, by the whole image and with regions.

    The scores of all images and captions are held in memory: 0.5 GB for the 5,000 images of COCO.

    Args:
        bench: the encoder.
        data: a file `dataset_*.json` of Karpathy's splits, or the folder that holds some.
        images: folder of the images; None: beside the file, or in the usual folder there.
        split: which part.
        alpha: weight of the whole image where regions count, 0 to 1.

    Raises:
        LayoutError: there is no such file, it has another layout, or the images are not there.
    """
    rows: list[BenchmarkRow] = []
    for file in _caption_files(data):
        captioned = read_captions(file, split, images)
        rows += _measure(bench, captioned, f"{captioned.name} {split}", alpha)
    return BenchmarkTable(
        "retrieval",
        bench.encoder.card,
        rows,
        notes=[f"with regions: {alpha:g} <g, t> + {1 - alpha:g} max_q <r_q, t>, of image g, regions r_q, caption t"],
        options={"split": split, "alpha": alpha},
    )


def pair_ranks(scores: Floats, owner: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank what belongs together, in both directions, from 1; of equal scores the lower row or column comes first.

    Args:
        scores: (N, T) of images and captions.
        owner: (T,) image of each caption; every image has one or more.

    Returns:
        (N,) rank of each image's best own caption among the captions, and (T,) rank of each caption's image.
    """
    best = np.empty(len(scores), np.int64)
    for image in range(len(scores)):
        own = np.flatnonzero(owner == image)
        best[image] = own[scores[image, own].argmax()]
    by_image = [truth_ranks(scores[rows], best[rows]) for rows in _slices(len(scores))]
    by_text = [truth_ranks(scores[:, rows].T, owner[rows]) for rows in _slices(len(owner))]
    return np.concatenate(by_image), np.concatenate(by_text)


def read_captions(file: Path, split: str, images: Path | None = None) -> Captioned:
    """Read a file of Karpathy's splits.

    Args:
        file: JSON with `dataset` and `images`, each with `filename`, `split`, `sentences` with `raw`, and for COCO
            `filepath`, its folder.
        split: of the images to read.
        images: folder of the images; None: as for `retrieval`.

    Raises:
        LayoutError: it has another layout, nothing of this split, or the images are not there.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        name = str(document["dataset"])
        chosen = [entry for entry in document["images"] if entry["split"] == split]
        paths = [os.path.join(str(entry.get("filepath", "")), str(entry["filename"])) for entry in chosen]
        captions = [_texts(entry) for entry in chosen]
        splits = sorted({str(entry["split"]) for entry in document["images"]})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise LayoutError(f"{file} is not a file of Karpathy's splits ({error!r}); expected {EXPECTED}") from error
    kept = [number for number, texts in enumerate(captions) if texts]
    if not kept:
        raise LayoutError(f"{file} has no image with a caption in the split {split!r}; it has {', '.join(splits)}")
    if len(kept) < len(chosen):
        note(f"warning: {file.name}: {counted(len(chosen) - len(kept), 'image')} without a caption left out")
    paths = [paths[number] for number in kept]
    folder = _image_folder(file, paths[0], images)
    items = [ImageItem(os.fsencode(path), os.fsencode(folder / path)) for path in paths]
    return Captioned(name, items, [captions[number] for number in kept])


def _texts(entry: dict[str, Any]) -> list[str]:
    texts = [str(sentence["raw"]).strip() for sentence in entry["sentences"]]
    return [text for text in texts if text][:CAPTIONS]


def _caption_files(data: Path) -> list[Path]:
    files = [data] if data.is_file() else sorted(data.glob("dataset_*.json"))
    if not files:
        raise LayoutError(f"{data} has {contents(data)}; expected {EXPECTED}")
    return files


def _image_folder(file: Path, first: str, images: Path | None) -> Path:
    """Return the folder that holds the first image; all others are looked for in the same one."""
    places = [images] if images is not None else [file.parent / folder for folder in _FOLDERS]
    for place in places:
        if (place / first).is_file():
            return place
    has = contents(images or file.parent)
    raise LayoutError(
        f"{file.name} names the image {first}, and {images or file.parent} has {has}; expected {EXPECTED}"
    )


def _measure(bench: Bench, captioned: Captioned, data: str, alpha: float) -> list[BenchmarkRow]:
    texts = [text for own in captioned.captions for text in own]
    owner = np.repeat(np.arange(len(captioned.items)), [len(own) for own in captioned.captions])
    vectors = bench.encoder.encode_texts(texts)
    images: list[Floats] = []
    best: list[Floats] = []
    there: list[NDArray[np.int64]] = []
    for batch in bench.encode(captioned.items, np.arange(len(captioned.items)), data):
        there.append(batch.rows)
        images.append(batch.features.image)
        regions = visible_regions(batch.features, bench.settings.score.region_threshold)
        best.append(np.concatenate([max_over_regions(regions, vectors[rows]) for rows in _slices(len(texts))], axis=1))
    # Images that cannot be decoded leave with their captions.
    decoded = np.concatenate(there)
    kept = np.flatnonzero(np.isin(owner, decoded))
    place = np.searchsorted(decoded, owner[kept])
    whole = inner_products(np.concatenate(images), vectors[kept])
    regional = np.concatenate(best)[:, kept]
    regional *= np.float32(1 - alpha)
    regional += np.float32(alpha) * whole
    rows = []
    for way, scores in (("whole image", whole), ("with regions", regional)):
        by_image, by_text = pair_ranks(scores, place)
        for direction, ranks in (("image to text", by_image), ("text to image", by_text)):
            rows += [
                BenchmarkRow(data, f"{direction}, {way}", f"R@{cut}", (float((ranks <= cut).mean()),), len(ranks))
                for cut in _CUTS
            ]
    return rows


def _slices(total: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK_ROWS) for start in range(0, total, CHUNK_ROWS))
