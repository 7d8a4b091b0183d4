"""How time and memory grow with categories and with pictures: curves as a PNG.

usage: python tests/benchmarks/growth.py [--output growth.png] [--categories 100000] [--pictures 10000] [--encode 1000]

Sizes are the powers of ten from 100 to the largest that is asked for: a million categories take 9 GB of disk and an
hour, 100,000 pictures 6 GB and a quarter of an hour.

Left: seconds per image of search in batches and the RAM that it takes, by number of categories with three descriptions
each: scoring everything, and what `--index auto` chooses. Vectors are made up, as those of `scoring.py`; `--work DIR`
takes those of texts that `search.py` left there, where it has the size. Each search runs in a process of its own.

Right: seconds for a folder of small JPEGs, 100 names, by number of pictures: the first run, and the second after one
name was edited, beside the ways of `folder.py`. Of more pictures than `--encode` features are composed: those of
encoded pictures again, under the hashes of other files.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recognizer.allocator import keep_freed_memory, let_idle_threads_sleep

let_idle_threads_sleep()  # as the command does, before NumPy is imported

import numpy as np  # noqa: E402
import open_clip  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullLocator  # noqa: E402

from memory.durable import file_sha256  # noqa: E402
from memory.search import choose_kind  # noqa: E402
from recognizer import Encoder  # noqa: E402
from recognizer.calibration.diagrams import BLUE, GREY, INK, ORANGE, plain, save  # noqa: E402
from recognizer.console import note, table  # noqa: E402
from recognizer.features import FeatureStore  # noqa: E402
from recognizer.images import list_images  # noqa: E402
from recognizer.settings import load_settings  # noqa: E402
from tests.benchmarks.comparison import Comparison, add_json_option, hand_over  # noqa: E402
from tests.benchmarks.folder import MODEL, NPY, PLAIN, embed_then_query, ours, plain_script  # noqa: E402
from tests.benchmarks.open_clip_script import OpenClip  # noqa: E402
from tests.benchmarks.scoring import write_world  # noqa: E402
from tests.benchmarks.search import DIM  # noqa: E402
from tests.benchmarks.throughput import bare_seconds, make_photos  # noqa: E402

LEAST = 100
DESCRIPTIONS, IMAGES, REGIONS = 3, 32, 5
EVERYTHING, AUTO = "scoring everything", "--index auto"
STEP = """
import json, pathlib, sys
from tests.benchmarks.search import one_step
print(json.dumps(one_step(pathlib.Path(sys.argv[1]), *sys.argv[2:])))
"""
FIRST, SECOND = "ours, first run", "ours, second run"
PLAIN_RUN, NPY_FIRST, NPY_SECOND = f"{PLAIN}, each run", f"{NPY}, first run", f"{NPY}, second run"


@dataclass(frozen=True)
class Point:
    """A point of a curve.

    Attributes:
        curve: its name.
        size: categories or pictures.
        seconds: for an image or for the folder.
        ram: MB of the process's own memory.
        mapped: MB of files that it has mapped.
        composed: whether vectors or features are made up.
        kind: of the search.
    """

    curve: str
    size: int
    seconds: float
    ram: float = 0.0
    mapped: float = 0.0
    composed: bool = False
    kind: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("growth.png"))
    parser.add_argument("--categories", type=int, default=100_000, help="largest number of categories")
    parser.add_argument("--pictures", type=int, default=10_000, help="largest number of pictures")
    parser.add_argument("--encode", type=int, default=1000, help="largest number of pictures that are encoded")
    parser.add_argument("--work", type=Path, help="folder of vectors that `search.py` left")
    add_json_option(parser)
    options = parser.parse_args()
    keep_freed_memory()  # as the command does
    encoder = Encoder.load(MODEL, "random", device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folders = list(folder_points(Path(scratch), encoder, sizes(options.pictures), options.encode))
        decode, encode = bare_seconds(encoder, list_images([Path(scratch) / "photos"])[:64])
    searches = list(search_points(sizes(options.categories), options.work))
    for points in (searches, folders):
        print(
            table(
                ["curve", "size", "seconds", "RAM, MB", "mapped, MB", ""],
                [
                    [p.curve, f"{p.size:,}", f"{p.seconds:.4f}", f"{p.ram:.0f}", f"{p.mapped:.0f}", p.kind]
                    for p in points
                ],
            )
        )
    one_image = decode / (os.cpu_count() or 1) + encode
    draw(searches, folders, one_image, f"{MODEL}, {encoder.precision}, {os.cpu_count()} cores", options.output)
    hand_over(options.json, list(comparisons(searches, folders, one_image)))


def sizes(largest: int) -> list[int]:
    """Return the powers of ten from the least size."""
    return list(itertools.takewhile(lambda size: size <= largest, (LEAST * 10**power for power in range(9))))


def search_points(counts: Sequence[int], work: Path | None) -> Iterator[Point]:
    """Measure the searches of memories."""
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            stored = work is not None and (work / str(count) / "features.npz").is_file()
            folder = work / str(count) if work is not None and stored else Path(scratch)
            if not stored:
                write_world(folder, count, DESCRIPTIONS, images=IMAGES, regions=REGIONS)
            kind = choose_kind(count, 2 * DIM)
            for row in dict.fromkeys(("exact", kind)):
                if row != "exact" and not (folder / row).is_dir():
                    alone(folder, row, "build")
                found = alone(folder, row, "search")
                ram, mapped = float(found["anon"]), float(found["mapped"])
                note(f"{count:,} categories, {row}: {1000 / found['batch']:.2f} ms an image")
                for curve in [EVERYTHING] * (row == "exact") + [AUTO] * (row == kind):
                    yield Point(curve, count, 1 / found["batch"], ram, mapped, composed=not stored, kind=row)


def alone(folder: Path, row: str, step: str, *, hide_gpus: bool = False) -> dict:
    """Run a step of `search.py` in a process of its own."""
    command = [sys.executable, "-c", STEP, str(folder), row, step]
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if hide_gpus else {})
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)


def folder_points(scratch: Path, encoder: Encoder, counts: Sequence[int], encoded: int) -> Iterator[Point]:
    """Measure the ways of `folder.py`."""
    model, templates = OpenClip.load(MODEL, encoder.precision), list(encoder.default_templates)
    names = list(open_clip.IMAGENET_CLASSNAMES[:100])
    real = max(count for count in counts if count <= encoded)
    photos = make_photos(scratch / "photos", real, 500)
    last = scratch
    for count in counts:
        folder, composed = scratch / str(count), count > encoded
        if composed:
            pictures = compose(last, folder, encoder, count)
        else:
            pictures = folder / "photos"
            pictures.mkdir(parents=True)
            for photo in sorted(photos.iterdir())[:count]:
                (pictures / photo.name).hardlink_to(photo)
            last = folder
        listing = list_images([pictures])
        paths = [item.path for item in listing]
        ways = {
            (FIRST, SECOND): ours(encoder, listing),
            (NPY_FIRST, NPY_SECOND): embed_then_query(model, paths, templates),
            (PLAIN_RUN, ""): plain_script(model, paths, templates),
        }
        for (first, second), way in ways.items():
            place = folder / first
            place.mkdir(exist_ok=True)
            for curve, labels in ((first, names), (second, [*names[:-1], f"name edited for {count}"])):
                if not curve or (composed and curve != second):
                    continue
                started = time.perf_counter()
                way(labels, place)
                yield Point(curve, count, time.perf_counter() - started, composed=composed)
                note(f"{count:,} pictures, {curve}: {time.perf_counter() - started:.1f} s")


def compose(encoded: Path, folder: Path, encoder: Encoder, count: int) -> Path:
    """Make what first runs over many pictures would have left, of what they left of fewer; returns the pictures.

    The pictures are files of a few bytes: a second run looks at their size and time alone.
    """
    settings = load_settings()
    pictures = folder / "photos"
    pictures.mkdir(parents=True)
    for number in range(count):
        (pictures / f"{number:07}.jpg").write_text(str(number))
    listing = list_images([pictures])
    with FeatureStore(encoded / FIRST / "features", encoder.card, settings.images, warn=note) as features:
        stored = [one.stored for one in features.look_up(list(list_images([encoded / "photos"])))]
    with FeatureStore(folder / FIRST / "features", encoder.card, settings.images, warn=note) as features:
        for number, item in enumerate(listing):
            features.table.add([replace(stored[number % len(stored)], sha256=file_sha256(item.path))])
        features.table.flush()
        features.has(list(listing))
    shutil.copytree(encoded / FIRST / "memory", folder / FIRST / "memory")
    (folder / NPY_FIRST).mkdir()
    vectors = np.load(encoded / NPY_FIRST / "img_emb_0.npy")
    np.save(folder / NPY_FIRST / "img_emb_0.npy", np.resize(vectors, (count, vectors.shape[1])))
    paths = pa.table({"image_path": [os.fsdecode(item.path) for item in listing]})
    pq.write_table(paths, folder / NPY_FIRST / "metadata.parquet")
    return pictures


def comparisons(searches: Sequence[Point], folders: Sequence[Point], one_image: float) -> Iterator[Comparison]:
    """Yield what the largest sizes say."""
    most = max(point.size for point in searches)
    found = {point.curve: point for point in searches if point.size == most}
    yield Comparison(
        f"an image among {most:,} categories, from JPEG to candidates ({found[AUTO].kind})",
        "ms",
        1000 * (one_image + found[AUTO].seconds),
        1000 * (one_image + found[EVERYTHING].seconds),
        1000 * one_image,
        peer_is="scoring everything (ours)",
        bound_is="bare decoding and encoding",
    )
    most = max(point.size for point in folders)
    seconds = {point.curve: point.seconds for point in folders if point.size == most}
    yield Comparison(f"{most:,} small JPEGs, one name edited", "s", seconds[SECOND], seconds[NPY_SECOND], peer_is=NPY)


def draw(searches: Sequence[Point], folders: Sequence[Point], one_image: float, machine: str, path: Path) -> None:
    """Draw the curves.

    Args:
        searches: of memories.
        folders: of pictures.
        one_image: seconds of decoding and encoding a picture.
        machine: and the model, in words.
        path: of the PNG.
    """
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, wspace=0.04)
    time_axes, ram_axes = left.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for curve, colour, width in ((EVERYTHING, GREY, 3.2), (AUTO, BLUE, 1.8)):
        own = [point for point in searches if point.curve == curve]
        across = [point.size for point in own]
        style = {"color": colour, "linewidth": width, "marker": "o", "markersize": 5}
        time_axes.plot(across, [point.seconds for point in own], label=curve, **style)
        ram_axes.plot(across, [max(point.ram, 1) for point in own], **style)
        mapped = {**style, "linestyle": ":", "linewidth": width * 0.7, "markersize": 3}
        ram_axes.plot(across, [max(point.mapped, 1) for point in own], **mapped)
    for line, label in (("-", "own memory"), (":", "mapped files")):
        ram_axes.plot([], [], color=INK, linestyle=line, label=label)
    time_axes.axhline(one_image, color=ORANGE, linestyle="--", linewidth=1.5, label="decoding and encoding the image")
    for before, point in itertools.pairwise(point for point in searches if point.curve == AUTO):
        if before.kind != point.kind:
            time_axes.annotate(
                f"{point.kind} from here", (point.size, point.seconds), (6, -12), textcoords="offset points",
                ha="left", fontsize=8, color=BLUE,
            )  # fmt: skip
    made = "composed vectors" if any(point.composed for point in searches) else "composed names"
    time_axes.set(ylabel="seconds per image")
    ram_axes.set(ylabel="RAM, MB", xlabel="categories, with 3 descriptions each")
    time_axes.set_title(f"One image, 5 regions ({made})", color=INK, fontsize=11)
    folder_axes = right.subplots()
    for curve, colour, line in (
        (PLAIN_RUN, GREY, "-"),
        (NPY_FIRST, ORANGE, "-"),
        (FIRST, BLUE, "-"),
        (NPY_SECOND, ORANGE, "--"),
        (SECOND, BLUE, "--"),
    ):
        own = [point for point in folders if point.curve == curve]
        style = {"color": colour, "linestyle": line, "linewidth": 1.8}
        folder_axes.plot([point.size for point in own], [point.seconds for point in own], label=curve, **style)
        for point in own:
            inside = "white" if point.composed else colour
            folder_axes.plot(point.size, point.seconds, "o", color=colour, markersize=6, markerfacecolor=inside)
    if any(point.composed for point in folders):
        label = "composed features: those of encoded\npictures under the hashes of other files"
        folder_axes.plot([], [], "o", color=INK, markerfacecolor="white", linestyle="", label=label)
    folder_axes.set(ylabel="seconds for the folder", xlabel="small JPEGs in the folder, 100 names")
    folder_axes.set_title("A folder; the second run follows the edit of one name", color=INK, fontsize=11)
    for axes in (time_axes, ram_axes, folder_axes):
        finish(axes)
    for axes in (time_axes, ram_axes):
        axes.legend(loc="upper left", frameon=False, fontsize=8)
    right.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(machine, color=INK, fontsize=11)
    save(figure, path)


def finish(axes: Axes) -> None:
    """Make both axes logarithmic, with numbers in full."""
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    plain(axes)


if __name__ == "__main__":
    main()
