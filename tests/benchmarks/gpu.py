"""Everything that needs a GPU, once, in under eight minutes: figures as a Markdown table.

usage: python tests/benchmarks/gpu.py [--model ViT-B-16 --pretrained random] [--output gpu.md]

Each row is tried by itself; one that fails says why in its place. Photographs are the demo's, enlarged. The encoder is
ViT-B/16 with random weights unless another is named; weights change no speed. What a row compares runs in turns.
Without a GPU it says so and exits with 2.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from recognizer.allocator import keep_freed_memory, let_idle_threads_sleep

let_idle_threads_sleep()  # as the command does, before NumPy is imported

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import distributed  # noqa: E402

from memory import Memory, read_labels  # noqa: E402
from recognizer import Encoder, Recognizer  # noqa: E402
from recognizer.demo import DATA  # noqa: E402
from recognizer.encoder import Frame  # noqa: E402
from recognizer.images import ImageItem, ImageLimits, list_images  # noqa: E402
from recognizer.images.worker import Task  # noqa: E402
from recognizer.images.workers import WorkerPool  # noqa: E402
from recognizer.pipeline import decode  # noqa: E402
from recognizer.results import open_results  # noqa: E402
from recognizer.run import recognize_into, run_setup  # noqa: E402
from recognizer.settings import load_settings  # noqa: E402
from tests.benchmarks.annotating import bare_seconds, stage_seconds, write_images  # noqa: E402
from tests.benchmarks.comparison import in_turns  # noqa: E402
from tests.benchmarks.growth import alone  # noqa: E402
from tests.benchmarks.scoring import write_world  # noqa: E402
from tests.benchmarks.throughput import make_photos  # noqa: E402
from tests.benchmarks.training_step import measure  # noqa: E402
from tests.training.annotation.tiny_detectors import save_owlv2  # noqa: E402

MOST_SECONDS = 420.0
"""After so many no further row is begun, so that all of it ends within eight minutes."""


@dataclass(frozen=True)
class Sizes:
    """What is measured; the defaults suit a large GPU, and those of the test a processor.

    Attributes:
        device: that is measured.
        model: open_clip's name, or another that `Encoder.load` takes.
        pretrained: its weights.
        images: photographs of a run.
        side: their longer side in pixels.
        batch: images of a pass.
        repeats: of each timing.
        rows: of a search index.
        categories: of a memory that is searched, with three descriptions each.
        dim: of its vectors.
        training: model of `training_step.py`.
        training_batch: its samples.
        compiler: backend of `torch.compile`.
        message_mib: that ranks exchange.
    """

    device: str = "cuda"
    model: str = "ViT-B-16"
    pretrained: str | None = "random"
    images: int = 4096
    side: int = 1280
    batch: int = 256
    repeats: int = 10
    rows: int = 1_000_000
    categories: int = 100_000
    dim: int = 512
    training: str = "GRAIN"
    training_batch: int = 128
    compiler: str = "inductor"
    message_mib: int = 512

    def encoder(self, precision: str = "bf16") -> Encoder:
        """Load the encoder."""
        return Encoder.load(self.model, self.pretrained, device=self.device, precision=precision)


Figures = Iterator[tuple[str, str]]
"""What was measured, and the figure."""


def seconds(sizes: Sizes, *runs: Callable[[], object]) -> list[float]:
    """Return the median time of each, run in turns; the first round warms up."""
    wait = torch.cuda.synchronize if sizes.device == "cuda" else lambda: None
    times = in_turns({str(number): run for number, run in enumerate(runs)}, sizes.repeats, wait=wait)
    return [one.wall for one in times.values()]


def noise(encoder: Encoder, count: int) -> tuple[torch.Tensor, list[Frame]]:
    """Return pixels of noise and their frames."""
    height, width = encoder.input_size_hw
    pixels = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)
    return pixels, [Frame((height, width), (0.0, 0.0), (1.0, 1.0))] * count


@contextmanager
def photographs(sizes: Sizes) -> Iterator[tuple[Path, Path]]:
    """Yield a folder of photographs and one for all else."""
    with tempfile.TemporaryDirectory() as scratch:
        yield make_photos(Path(scratch) / "photos", sizes.images, sizes.side), Path(scratch)


def end_to_end(sizes: Sizes) -> Figures:
    """From JPEG files to rows, against the bare encoder."""
    encoder = sizes.encoder()
    with photographs(sizes) as (photos, scratch):
        directory = scratch / "memory"
        Memory.build(read_labels(DATA / "labels.json"), directory, encoder=encoder, templates=encoder.default_templates)
        settings = load_settings(overrides=[f"run.batch_size={sizes.batch}"])
        recognizer = Recognizer(encoder, Memory.open(directory), settings=settings)
        listing = list_images([photos])
        setup = run_setup(recognizer.memory, settings, listing, device=sizes.device, precision="bf16")
        pixels, frames = noise(encoder, sizes.batch)
        (bare,) = seconds(sizes, lambda: encoder.encode_pixels(pixels, frames))
        bound = decoding_rate(encoder, listing[: sizes.images // 2])
        started = time.perf_counter()
        with open_results(scratch / "rows.jsonl", keys=listing.keys, setup=setup) as sink:
            for _ in recognize_into(recognizer, listing, sink):
                pass
            sink.finish()
        run = len(listing) / (time.perf_counter() - started)
    yield f"`run` from JPEGs of {sizes.side} px to rows, batch {sizes.batch}", f"{run:.0f} images/s"
    yield "the bare encoder; share of it", f"{sizes.batch / bare:.0f} images/s; {run * bare / sizes.batch:.2f}"
    yield "the bare decoding processes; share of them", f"{bound:.0f} images/s; {run / bound:.2f}"


def decoding_rate(encoder: Encoder, items: Sequence[ImageItem]) -> float:
    """Return how many images a second the decoding processes read, decode and fit, with nothing behind them."""
    task, workers = Task(ImageLimits(), encoder.input_size_hw, encoder.fit), os.cpu_count() or 1
    pool = WorkerPool(workers)
    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(lambda item: decode(pool, encoder, item, task), items[: 8 * workers]))  # starts them
        started = time.perf_counter()
        list(threads.map(lambda item: decode(pool, encoder, item, task), items))
        rate = len(items) / (time.perf_counter() - started)
    pool.close()
    return rate


def ray_engine(sizes: Sizes) -> Figures:
    """From JPEG files to a folder of Parquet files on Ray, one actor for each GPU."""
    from recognizer.engine.run import memory_encoder, opened_engine, recognize_into_shards
    from recognizer.results.shards import ShardWriter

    encoder = sizes.encoder()
    with photographs(sizes) as (photos, scratch):
        directory = scratch / "memory"
        Memory.build(read_labels(DATA / "labels.json"), directory, encoder=encoder, templates=encoder.default_templates)
        memory = Memory.open(directory)
        del encoder  # the actor needs the memory of the GPU
        settings = load_settings(overrides=[f"run.batch_size={sizes.batch}"])
        listing = list_images([photos])
        with opened_engine(None, *memory_encoder(memory), device=sizes.device, precision="bf16") as engine:
            setup = engine.setup(run_setup(memory, settings, listing, device="cpu", precision="bf16"))
            with ShardWriter(scratch / "rows", listing.keys, setup, warn=print) as writer:
                first = done = 0
                started = time.perf_counter()
                for images, _ in recognize_into_shards(engine, memory, settings, listing, writer, warn=print):
                    if not first:
                        first, started = images, time.perf_counter()
                    done += images
                took = time.perf_counter() - started
                writer.finish()
        workers = engine.workers
    yield (
        f"`run --engine ray`, {workers.encoders} encoders, {workers.decoders} decoders, after the first batch",
        f"{(done - first) / took:.0f} images/s",
    )


def precisions(sizes: Sizes) -> Figures:
    """The bare encoder in both number formats, and how far its vectors are from those of a processor."""
    half, full = sizes.encoder("bf16"), sizes.encoder("fp32")
    pixels, frames = noise(full, sizes.batch)
    times = seconds(sizes, lambda: half.encode_pixels(pixels, frames), lambda: full.encode_pixels(pixels, frames))
    here = Encoder.load(sizes.model, sizes.pretrained, device="cpu", precision="fp32")
    few = slice(0, 4)
    expected = here.encode_pixels(pixels[few], frames[few]).image
    yield "bare encoder in bf16; fp32", "; ".join(f"{sizes.batch / one:.0f} images/s" for one in times)
    if sizes.pretrained == "random":  # other weights at each load
        return
    cosines = [
        float((one.encode_pixels(pixels[few], frames[few]).image * expected).sum(1).min()) for one in (half, full)
    ]
    yield "least cosine with the processor's vectors, bf16; fp32", "; ".join(f"{one:.6f}" for one in cosines)


def pinned(sizes: Sizes) -> Figures:
    """Page-locked memory for the pixels, against memory as it comes."""
    encoder = sizes.encoder()
    pixels, _ = noise(encoder, sizes.batch)
    device = torch.device(sizes.device)

    def lock() -> torch.Tensor:
        return pixels.pin_memory() if sizes.device == "cuda" else pixels.clone()

    locked = lock()
    plain, copied, ready = seconds(
        sizes,
        lambda: pixels.to(device),
        lambda: lock().to(device, non_blocking=True),
        lambda: locked.to(device, non_blocking=True),
    )
    yield (
        f"{sizes.batch} images to the device: as they come; locked first; locked before",
        f"{1000 * plain:.2f}; {1000 * copied:.2f}; {1000 * ready:.2f} ms",
    )


def compiled(sizes: Sizes) -> Figures:
    """The image tower of open_clip compiled, against as it is."""
    import open_clip

    tower = open_clip.create_model(sizes.model, precision="bf16", device=sizes.device).visual.eval()
    size = tower.image_size if isinstance(tower.image_size, tuple) else (tower.image_size,) * 2
    pixels = torch.rand(sizes.batch, 3, *size, device=sizes.device, dtype=torch.bfloat16)
    started = time.perf_counter()
    with torch.inference_mode():
        fast = torch.compile(tower, backend=sizes.compiler)
        fast(pixels)
        start = time.perf_counter() - started
        plain, quick = seconds(sizes, lambda: tower(pixels), lambda: fast(pixels))
    rates = f"{sizes.batch / plain:.0f}; {sizes.batch / quick:.0f} images/s"
    yield "image tower as it is; compiled", f"{rates} ({plain / quick:.2f} times, {start:.0f} s to compile)"


def out_of_memory(sizes: Sizes) -> Figures:
    """A batch that the GPU has no memory for is halved, and the features are those of smaller batches."""
    if sizes.device != "cuda":
        raise RuntimeError("processors encode four images at a time")
    encoder = sizes.encoder("fp32")
    pixels, frames = noise(encoder, sizes.batch)
    expected = np.concatenate(
        [encoder.encode_pixels(pixels[n : n + 8], frames[n : n + 8]).image for n in range(0, sizes.batch, 8)]
    )
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    # Room for a few images: a pass of ViT-B/16 takes some 10 MB an image.
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 2**28) / total)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = encoder.encode_pixels(pixels, frames).image
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    cosine = float((found * expected).sum(1).min())
    yield f"{sizes.batch} images with 256 MiB to spare: halved; least cosine", f"{len(said)} times; {cosine:.6f}"


def flat_search(sizes: Sizes) -> Figures:
    """FAISS's exact search, on the GPU and on the processors."""
    import faiss

    vectors, queries = vectors_and_queries(sizes)
    here = faiss.IndexFlatIP(sizes.dim)
    here.add(vectors)
    there = here
    if sizes.device == "cuda":
        there = faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), sizes.dim)
        there.add(vectors)
    expected, found = (index.search(queries[:16], 10)[1] for index in (here, there))
    for batch in (1, 64):
        gpu, cpu = seconds(
            sizes, lambda b=batch: there.search(queries[:b], 10), lambda b=batch: here.search(queries[:b], 10)
        )
        yield (
            f"FAISS flat, {sizes.rows:,} rows, batch {batch}: GPU; processors",
            f"{batch / gpu:.0f}; {batch / cpu:.0f} queries/s",
        )
    yield (
        "the same 10 rows",
        f"{np.mean([len(set(a) & set(b)) / 10 for a, b in zip(expected, found, strict=True)]):.3f}",
    )


def memory_search(sizes: Sizes) -> Figures:
    """A memory of many categories searched as `run` does: rows on the GPU, and lists on the processors."""
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_world(folder, sizes.categories, 3, images=min(256, sizes.categories), regions=5)
        for row, step, hidden in (
            ("exact", "search", False),
            ("ivf", "build", True),
            ("ivf", "search", True),
            ("ivf", "search", False),
        ):
            figures[row, step, hidden] = alone(folder, row, step, hide_gpus=hidden)
    what = f"{sizes.categories:,} categories x 3"
    yield f"{what}: building and measuring `ivf` on the processors", f"{figures['ivf', 'build', True]['seconds']:.0f} s"
    for key, title in (
        (("exact", "search", False), "scoring everything"),
        (("ivf", "search", True), "`ivf` on the processors"),
        (("ivf", "search", False), "`ivf` with its rows on the GPU"),
    ):
        found = figures[key]
        yield (
            f"{what}, {title}: first answer; images/s one by one, in batches; recall@10; winners",
            f"{found['first']:.2f} s; {found['single']:.1f}, {found['batch']:.1f}; "
            f"{found['ranking']}; {found['winner']}",
        )


def detector(sizes: Sizes) -> Figures:
    """OWLv2 of the base model's shape in `annotate`, against its bare forward passes."""
    side, width, layers, batch, images = (960, 768, 12, 8, 256) if sizes.device == "cuda" else (64, 32, 2, 2, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save_owlv2(folder / "owlv2", side=side, width=width, heads=max(2, width // 64), layers=layers)
        manifest = write_images(folder, images)
        bare = bare_seconds(model, [folder / f"{number}.jpg" for number in range(images)], batch, sizes.device)
        stage_seconds(model, manifest, folder / "warm.jsonl", batch, sizes.device)
        stage = stage_seconds(model, manifest, folder / "found.jsonl", batch, sizes.device)
    yield (
        f"detector of `annotate`, OWLv2 at {side} px: images/s of its stage; share of bare passes",
        f"{images / stage.wall:.1f}; {bare.wall / stage.wall:.2f}",
    )


def cagra(sizes: Sizes) -> Figures:
    """FAISS's graph on the GPU, where the installed FAISS has it."""
    import faiss

    if not hasattr(faiss, "GpuIndexCagra"):
        raise RuntimeError("the installed FAISS has no CAGRA; faiss-gpu-cuvs has, in place of faiss-gpu")
    vectors, queries = vectors_and_queries(sizes)
    config = faiss.GpuIndexCagraConfig()
    config.graph_degree = 64
    index = faiss.GpuIndexCagra(faiss.StandardGpuResources(), sizes.dim, faiss.METRIC_INNER_PRODUCT, config)
    started = time.perf_counter()
    index.train(vectors)
    built = time.perf_counter() - started
    exact = faiss.IndexFlatIP(sizes.dim)
    exact.add(vectors)
    expected, found = (one.search(queries, 10)[1] for one in (exact, index))
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(expected, found, strict=True)])
    times = seconds(sizes, lambda: index.search(queries[:1], 10), lambda: index.search(queries, 10))
    yield (
        f"CAGRA, {sizes.rows:,} rows: build; batch 1; batch 64; recall@10",
        f"{built:.1f} s; {1 / times[0]:.0f}; {len(queries) / times[1]:.0f} queries/s; {recall:.3f}",
    )
    for k, width in ((10, 256), (64, 512), (256, 1024)):
        settings = faiss.SearchParametersCagra()
        settings.itopk_size = width
        expected, found = exact.search(queries, k)[1], index.search(queries, k, params=settings)[1]
        recall = np.mean([len(set(a) & set(b)) / k for a, b in zip(expected, found, strict=True)])
        (took,) = seconds(sizes, lambda k=k, settings=settings: index.search(queries[:6], k, params=settings))
        yield f"CAGRA, the {k} nearest, wide ({width}): six queries; recall", f"{1000 * took:.2f} ms; {recall:.3f}"


def vectors_and_queries(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Return unit rows around common centres, and 64 queries near some of them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, sizes.rows // 100), sizes.dim), np.float32)
    vectors = centres[rng.integers(0, len(centres), sizes.rows)]
    vectors += 0.7 * rng.standard_normal(vectors.shape, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:64] + rng.standard_normal((min(64, sizes.rows), sizes.dim), np.float32) / sizes.dim**0.5
    return vectors, queries / np.linalg.norm(queries, axis=1, keepdims=True)


def training_step(sizes: Sizes) -> Figures:
    """A step of `configs/train/grain_vitb16_cc3m.yaml` against the bare passes of the same model."""
    with tempfile.TemporaryDirectory() as folder:
        work = (1, Path(folder), sizes.training, sizes.training_batch, sizes.repeats, sizes.device)
        torch.multiprocessing.spawn(measure, work, nprocs=1)  # a process of its own, whose memory is all given back
        rows = torch.load(Path(folder) / "rows")
    for _, _, what, wall, _, share, _, peak in rows:
        yield (
            f"training {sizes.training}, batch {sizes.training_batch}: {what}",
            f"{wall} ms; {share} × bare; peak {peak} MiB",
        )


def one_rank(sizes: Sizes) -> Figures:
    """NCCL with one rank: what a GPU without others can show of it."""
    backend = "nccl" if sizes.device == "cuda" else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            numbers = torch.ones(sizes.message_mib * 2**18, device=sizes.device)
            gathered = [torch.empty_like(numbers)]
            reduce, gather = seconds(
                sizes, lambda: distributed.all_reduce(numbers), lambda: distributed.all_gather(gathered, numbers)
            )
            assert float(numbers[0]) == float(gathered[0][0]) == 1.0
        finally:
            distributed.destroy_process_group()
    yield (
        f"{backend}, one rank, {sizes.message_mib} MiB: all_reduce; all_gather",
        f"{1000 * reduce:.2f}; {1000 * gather:.2f} ms",
    )


ROWS: tuple[Callable[[Sizes], Figures], ...] = (
    end_to_end,
    precisions,
    pinned,
    compiled,
    out_of_memory,
    flat_search,
    memory_search,
    cagra,
    detector,
    training_step,
    one_rank,
    ray_engine,
)


def lines(sizes: Sizes, rows: tuple[Callable[[Sizes], Figures], ...] = ROWS) -> Iterator[str]:
    """Yield the lines of the table; a row that fails is one with its reason."""
    began = time.perf_counter()
    yield "| what | figure | seconds |"
    yield "|---|---|---|"
    for row in rows:
        started = time.perf_counter()
        name = row.__name__.replace("_", " ")
        if started - began > MOST_SECONDS:
            yield f"| {name} | left out: {MOST_SECONDS:.0f} s are over | |"
            continue
        try:
            figures = list(row(sizes))
        except Exception as error:  # noqa: BLE001  libraries of many kinds, and one must not cost the others
            reason = " ".join(str(error).split())[:200].replace("|", "/")
            figures = [(name, f"failed: {type(error).__name__}: {reason}")]
        took = f"{time.perf_counter() - started:.0f}"
        for what, figure in figures:
            yield f"| {what} | {figure} | {took} |"
        if sizes.device == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=Sizes.model)
    parser.add_argument("--pretrained", default=Sizes.pretrained)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU is seen by torch, so there is nothing to measure", file=sys.stderr)
        sys.exit(2)
    keep_freed_memory()  # as the command does
    written = [f"{torch.cuda.get_device_name()}, {os.cpu_count()} processors, torch {torch.__version__}", ""]
    print(*written, sep="\n")
    for line in lines(Sizes(model=arguments.model, pretrained=arguments.pretrained)):
        print(line, flush=True)
        written.append(line)
    if arguments.output:
        arguments.output.write_text("\n".join(written) + "\n")


if __name__ == "__main__":
    main()
