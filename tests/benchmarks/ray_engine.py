"""Ray with a worker per processor of this machine against one process, on the same pictures.

usage: python tests/benchmarks/ray_engine.py [DIR] [--images 200] [--copies 4] [--rounds 2]

DIR is a folder of pictures, such as the one that `training/starter/fetch_pictures.sh` fills; the largest files are
taken, `--copies` times each. Without it they are the demo's photographs, enlarged to 1,280 pixels. Both start and load
the encoder, which takes Ray much longer, so each runs a few pictures and all of them, in turns; the pictures a second
of the difference are compared, and the seconds of the few are printed. The rows must be the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from recognizer.allocator import keep_freed_memory, let_idle_threads_sleep

let_idle_threads_sleep()  # as the command does, before NumPy is imported

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from memory import Memory, read_labels  # noqa: E402
from recognizer import Encoder, Recognizer  # noqa: E402
from recognizer.console import note, table  # noqa: E402
from recognizer.demo import DATA  # noqa: E402
from recognizer.engine.run import memory_encoder, opened_engine, recognize_into_shards  # noqa: E402
from recognizer.images import Listing, list_images  # noqa: E402
from recognizer.memory_settings import carried_settings  # noqa: E402
from recognizer.results import open_results  # noqa: E402
from recognizer.results.shards import ShardWriter  # noqa: E402
from recognizer.run import recognize_into, run_setup  # noqa: E402
from recognizer.settings import load_settings  # noqa: E402
from tests.benchmarks.comparison import Comparison, add_json_option, hand_over  # noqa: E402
from tests.benchmarks.throughput import bare_seconds, make_photos  # noqa: E402

FEW = 16
"""Pictures of the short run: a block for each of two workers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    add_json_option(parser)
    arguments = parser.parse_args()

    keep_freed_memory()  # as the command does
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pictures = arguments.pictures or make_photos(folder / "photos", arguments.images, 1280)
        few = list_images([copies(pictures, folder / "few", FEW, 1)])
        many = list_images([copies(pictures, folder / "many", arguments.images, arguments.copies)])
        encoder = Encoder.load(device="cpu")
        directory = folder / "memory"
        Memory.build(read_labels(DATA / "labels.json"), directory, encoder=encoder, templates=encoder.default_templates)
        memory = Memory.open(directory)
        settings = load_settings(overrides=["run.batch_size=8"], base=carried_settings(memory))

        def one_process(listing: Listing, output: Path) -> None:
            recognizer = Recognizer.open(memory, settings=settings, device="cpu")
            setup = run_setup(memory, settings, listing, device="cpu", precision="auto")
            with open_results(f"{output}.parquet", keys=listing.keys, setup=setup) as sink:
                for _ in recognize_into(recognizer, listing, sink):
                    pass
                sink.finish()

        def on_ray(listing: Listing, output: Path) -> None:
            with opened_engine(None, *memory_encoder(memory), device="cpu", precision="auto") as engine:
                setup = engine.setup(run_setup(memory, settings, listing, device="cpu", precision="auto"))
                with ShardWriter(output, listing.keys, setup, warn=note) as writer:
                    for _ in recognize_into_shards(engine, memory, settings, listing, writer, warn=note):
                        pass
                    writer.finish()

        ways: dict[str, Callable[[Listing, Path], None]] = {"one process": one_process, "Ray": on_ray}
        seconds: dict[tuple[str, int], list[float]] = {}
        for number in range(arguments.rounds):
            for listing in (few, many):
                for name, run in ways.items():
                    started = time.perf_counter()
                    run(listing, folder / f"{name}-{len(listing)}-{number}")
                    seconds.setdefault((name, len(listing)), []).append(time.perf_counter() - started)
        decode, encode = bare_seconds(encoder, many[:64])
        same = rows(folder / f"Ray-{len(many)}-0").equals(rows(folder / f"one process-{len(many)}-0.parquet"))

    rates = {
        name: (len(many) - FEW)
        / (statistics.median(seconds[name, len(many)]) - statistics.median(seconds[name, len(few)]))
        for name in ways
    }
    lines = [[name, f"{rates[name]:.1f}", f"{statistics.median(seconds[name, len(few)]):.1f}"] for name in ways]
    print(f"{encoder.card.name}, {encoder.precision}, {os.cpu_count()} processors, {len(many)} pictures")
    print(table(["what", "images/s", f"s of {FEW}"], lines))
    print(
        f"Ray / one process: {rates['Ray'] / rates['one process']:.2f}; the rows are {'' if same else 'NOT '}the same"
    )
    comparison = Comparison(
        f"`run --engine ray` on this machine, {len(many)} pictures, {encoder.card.name}",
        "images/s",
        rates["Ray"],
        rates["one process"],
        1 / (decode / (os.cpu_count() or 1) + encode),
        peer_is="one process of ours",
        bound_is="bare decoding and encoding",
    )
    hand_over(arguments.json, [comparison])


def copies(pictures: Path, folder: Path, count: int, times: int) -> Path:
    """Link the largest JPEG and PNG files of a folder, each several times."""
    found = [path for path in pictures.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    found.sort(key=lambda path: (-path.stat().st_size, path))
    folder.mkdir()
    for copy in range(times):
        for number, path in enumerate(found[:count]):
            (folder / f"{copy:02}-{number:05}{path.suffix}").symlink_to(path.resolve())
    return folder


def rows(path: Path) -> pa.Table:
    """Read rows, sorted."""
    return pq.read_table(path).sort_by([("path", "ascending"), ("rank", "ascending")])


if __name__ == "__main__":
    main()
