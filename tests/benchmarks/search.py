"""Approximate search of large memories against scoring everything, and against FAISS and LanceDB by hand.

    python tests/benchmarks/search.py --cache DIR --features FILE.npz [FILE.npz ...] [--sizes 10000 100000] [--work DIR]

Categories are 100,000 names composed of nouns of WordNet and adjectives, with descriptions composed likewise, encoded
by the starter (once: `--cache` keeps them) and reduced to 512 numbers by their principal axes. A memory of more
categories is widened: to a vector of the base the difference of two others is added, scaled so that nearest neighbours
stay as near (both distributions are printed). Vectors of descriptions together with the name are .73 of the name and
.49 of the description, the least squares fit to 400 that were encoded (cosine .91). Queries are stored features of
pictures: npz files with image (N, D), regions (N, Q, D) and weight (N, Q); up to 5 regions of weight .5 count, heaviest
first.

Every row runs in a process of its own; an index that lies in --work is not built again. RAM is what it has more than
before it opened the index. The rows of FAISS and LanceDB by hand search one folded vector per category with the whole
image, as is usual; the ranking that they are compared with is that of all terms.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from recognizer.allocator import let_idle_threads_sleep

let_idle_threads_sleep()  # as the command does, before NumPy is imported

import numpy as np  # noqa: E402

from memory import Category  # noqa: E402
from memory.columns import StoredRows  # noqa: E402
from memory.encoder_card import EncoderCard  # noqa: E402
from memory.flat.files import row_check  # noqa: E402
from memory.index import ExactIndex  # noqa: E402
from memory.manifest import Manifest, TableRecord  # noqa: E402
from memory.mapped import BlockRecord, MappedBlocks, block_record  # noqa: E402
from memory.search import open_index, store_figures, write_index  # noqa: E402
from memory.vectors import MemoryVectors  # noqa: E402
from recognizer.agreement import compare, measured  # noqa: E402
from recognizer.approximate import ApproximateRetriever  # noqa: E402
from recognizer.console import table  # noqa: E402
from recognizer.encoder import ImageFeatures  # noqa: E402
from recognizer.retrieval import ExactRetriever, Retrieved  # noqa: E402
from recognizer.score import Scorer  # noqa: E402
from recognizer.settings import ScoreSettings  # noqa: E402
from tests.benchmarks.comparison import Comparison, add_json_option, hand_over  # noqa: E402

BASE, POOL, DIM, REGIONS, BEST = 100_000, 30_000, 512, 5, 10
CHUNK = 20_000
# The starter's own.
TEMPERATURE = 0.05
OF_NAME, OF_DESCRIPTION = 0.73, 0.49
ADJECTIVES = (
    "red blue green yellow black white brown grey orange purple striped spotted old new large small wooden metal glass "
    "plastic furry shiny round square long short thick thin broken painted wet flat curved dark pale golden silver "
    "rusty soft striking"
)
PARTS = (
    "handle tail wing beak leg wheel lid window door roof stem leaf petal horn ear eye nose mouth claw fin shell spout "
    "button strap buckle collar sleeve pocket lace sole heel blade edge point hinge lock knob switch screen lamp cable "
    "pedal seat saddle mirror bumper mast sail hull anchor chimney arch column step rail branch root trunk seed fruit "
    "flower thorn mane hoof paw belly back neck head foot label badge stripe spot pattern frame base stand spring gear "
    "belt chain rope net basket bag"
)
OURS = ("hnsw", "ivf", "lance")
BY_HAND = ("faiss flat", "faiss hnsw", "lancedb flat", "lancedb index")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder of the encoded texts")
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000])
    parser.add_argument("--descriptions", type=int, default=3)
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--work", type=Path, default=Path("search_work"), help="folder of vectors and indexes")
    parser.add_argument("--rows", nargs="+", default=["exact", *OURS, *BY_HAND])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    add_json_option(parser)
    options = parser.parse_args()
    if options.one:
        size, row, step = options.one.split(":")
        print(json.dumps(one_step(options.work / size, row, step)))
        return
    compared: list[Comparison] = []
    for size in options.sizes:
        figures: dict[str, dict[str, object]] = {}
        folder = options.work / str(size)
        print(f"\n{size:,} categories x {options.descriptions} descriptions of {DIM} numbers, {options.images} images")
        make_world(folder, size, options)
        rows = []
        for row in options.rows:
            built = built_once(folder / row.replace(" ", "_"), size, row)
            found = figures[row] = run_step(size, row, "search")
            measures = [f"{built['seconds']:.0f}", f"{found['first']:.2f}", f"{found['single']:.1f}"]
            measures += [f"{found['batch']:.1f}", found["ranking"]]
            rows.append([row, *measures, found["winner"], found["confidence"], found["own"], found["anon"]])
            rows[-1] += [found["mapped"], f"{built['disk']:.0f}", found["note"]]
            print(rows[-1], file=sys.stderr, flush=True)
        columns = [
            "search",
            "build s",
            "first s",
            "images/s, 1",
            "64",
            "recall@10",
            "winner",
            "confidence within",
            "own recall",
        ]
        print(table([*columns, "RAM MB", "mapped MB", "disk MB", ""], rows, widest=40))
        compared += comparisons(size, options.descriptions, figures)
    hand_over(options.json, compared)


def comparisons(size: int, descriptions: int, figures: dict[str, dict[str, object]]) -> Iterator[Comparison]:
    """Yield the first of our indexes beside scoring everything and beside the indexes by hand."""
    ours, flat = next((row for row in figures if row in OURS), None), figures.get("faiss flat", {})
    for peer in ("exact", "faiss hnsw", "lancedb index"):
        if ours is None or peer not in figures:
            continue
        for batch, title in (("single", "one by one"), ("batch", "in batches of 64")):
            yield Comparison(
                f"{ours}, {size:,} categories x {descriptions} descriptions, {title}, "
                f"recall@{BEST} {figures[ours]['ranking']}",
                "images/s",
                figures[ours][batch],
                figures[peer][batch],
                flat.get(batch),
                peer_is=f"{'scoring everything' if peer == 'exact' else peer + ' by hand'}, "
                f"recall@{BEST} {figures[peer]['ranking']}",
                bound_is="FAISS flat, one vector a category",
            )


def built_once(place: Path, size: int, row: str) -> dict[str, object]:
    """Build an index, or return what it took when it was built earlier."""
    if row == "exact":
        return {"seconds": 0.0, "disk": 0.0}
    card = place / "built.json"
    if not card.is_file():
        built = run_step(size, row, "build")
        card.write_text(json.dumps(built))
    return json.loads(card.read_text())


def run_step(size: int, row: str, step: str) -> dict[str, object]:
    """Run one row in a process of its own."""
    command = [sys.executable, *sys.argv, "--one", f"{size}:{row}:{step}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


@dataclass
class World:
    folder: Path
    vectors: MemoryVectors
    features: ImageFeatures

    @property
    def scorer(self) -> Scorer:
        return Scorer(self.vectors, ScoreSettings())

    @property
    def manifest(self) -> Manifest:
        card = EncoderCard("composed", "0" * 64, "fp32", DIM)
        return Manifest(1, card, (), {}, {"categories": TableRecord(1, len(self.vectors.names), {})})


def open_world(folder: Path) -> World:
    names, grounded, bare = map(stored_rows, json.loads((folder / "records.json").read_text()), [folder] * 3)
    number, each = len(names), len(bare) // len(names)
    vectors = MemoryVectors(
        categories=[Category("one of many")] * number,
        names=names,
        offsets=np.arange(number + 1, dtype=np.int64) * each,
        grounded=grounded,
        bare=bare,
        descriptions=[""] * len(bare),
        exemplar_offsets=np.zeros(number + 1, np.int64),
        exemplars=np.zeros((0, DIM), np.float32),
        exemplar_hashes=[],
        exemplar_references=[],
    )
    stored = np.load(folder / "features.npz")
    empty = np.zeros((*stored["weight"].shape, 4), np.float32)
    features = ImageFeatures(stored["image"], stored["regions"], empty, stored["weight"], empty[:, :, 0])
    return World(folder, vectors, features)


def stored_rows(record: dict[str, object], folder: Path) -> StoredRows:
    """Map vectors as a memory of this size does."""
    blocks = MappedBlocks(folder, BlockRecord.from_json(record))
    return StoredRows(np.frombuffer(blocks.data, np.float16).reshape(-1, DIM), None, row_check(blocks, 2 * DIM))


def one_step(folder: Path, row: str, step: str) -> dict[str, object]:
    world = open_world(folder)
    place = folder / row.replace(" ", "_")
    if step == "build":
        start = time.perf_counter()
        if row in OURS:
            place.mkdir(exist_ok=True)
            write_index(place, world.vectors, world.manifest, world.scorer.fold, row)
            index = open_index(place, world.vectors, world.manifest, world.scorer.fold, row)
            assert index is not None
            index = measured(index, world.scorer, TEMPERATURE)
            store_figures(place, world.manifest, index)
        else:
            build_by_hand(row, world, place)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "disk": sum(f.stat().st_size for f in place.rglob("*") if f.is_file()) / 1e6}
    truth = folder / "truth.npz"
    before = ram()
    note, own = "", ""
    opened = time.perf_counter()
    retrieve: Callable[[ImageFeatures], list[Retrieved]]
    if row == "exact":
        exact = ExactRetriever(world.scorer, TEMPERATURE)
        retrieve = lambda features: exact.retrieve(features, BEST)  # noqa: E731
    elif row in OURS:
        scorer = world.scorer
        index = open_index(place, world.vectors, world.manifest, scorer.fold, row)
        assert index is not None
        retriever = ApproximateRetriever(scorer, TEMPERATURE, index, depth=index.depth if index.depth > 0 else 1024)
        retrieve = lambda features: retriever.retrieve(features, BEST)  # noqa: E731
        own, note = f"{index.figures['search']:.3f}", f"{index.kind}, depth {index.depth}"
    else:
        search = open_by_hand(row, world, place)
        best = np.load(truth)["own"]
        found = search(world.features.image, BEST)
        own = f"{np.mean([np.isin(a, b).mean() for a, b in zip(best, found, strict=True)]):.3f}"
        retrieve = lambda features: [  # noqa: E731
            Retrieved(rows, np.zeros(len(rows), np.float32), np.zeros(len(rows)))
            for rows in search(features.image, BEST)
        ]
    images = len(world.features.image)
    retrieve(take(world.features, slice(0, 1)))
    first = time.perf_counter() - opened
    singles = range(min(images, 8 if row == "exact" else 64))
    start = time.perf_counter()
    for image in singles:
        retrieve(take(world.features, slice(image, image + 1)))
    single = len(singles) / (time.perf_counter() - start)
    start = time.perf_counter()
    found = [one for part in range(0, images, 64) for one in retrieve(take(world.features, slice(part, part + 64)))]
    batch = images / (time.perf_counter() - start)
    after = ram()
    if row == "exact":
        rows, scores, shares = (
            np.stack([getattr(one, name) for one in found]) for name in ("rows", "scores", "confidences")
        )
        own_best = ExactIndex(world.scorer.fold.rows(world.vectors)).search(world.features.image, BEST)[1]
        np.savez(truth, rows=rows, scores=scores, confidences=shares, own=own_best)
    expected = np.load(truth)
    truths = [
        Retrieved(*one) for one in zip(expected["rows"], expected["scores"], expected["confidences"], strict=True)
    ]
    figures = {"ranking": "", "winner": "", "confidence": ""}
    if row in ("exact", *OURS):
        figures = {name: f"{value:.4f}" for name, value in compare(truths, found).figures.items()}
    else:
        hits = [np.isin(one.rows, other.rows).mean() for one, other in zip(truths, found, strict=True)]
        figures["ranking"] = f"{np.mean(hits):.4f}"
        winners = [one.rows[0] in other.rows for one, other in zip(truths, found, strict=True)]
        figures["winner"] = f"{np.mean(winners):.4f}"
    memory = {name: f"{(after[name] - before[name]) / 1e3:.0f}" for name in after}
    return {"first": first, "single": single, "batch": batch, "own": own, "note": note, **figures, **memory}


def build_by_hand(row: str, world: World, place: Path) -> None:
    """Index one folded vector per category, as the documentation of each library does."""
    rows = world.scorer.fold.rows(world.vectors)
    place.mkdir(exist_ok=True)
    if row.startswith("faiss"):
        import faiss

        inner = faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexFlatIP(DIM) if row == "faiss flat" else faiss.IndexHNSWFlat(DIM, 32, inner)
        index.add(rows)
        faiss.write_index(index, str(place / "index.faiss"))
        return
    import lancedb
    from lancedb.index import IvfPq

    data = ({"row": number, "vector": row} for number, row in enumerate(rows))
    batches = iter(lambda: [one for _, one in zip(range(CHUNK), data, strict=False)], [])
    tables = lancedb.connect(place)
    made = tables.create_table("rows", next(batches), mode="overwrite")
    for batch in batches:
        made.add(batch)
    if row == "lancedb index":
        made.create_index("vector", config=IvfPq(distance_type="cosine"))


def open_by_hand(row: str, world: World, place: Path) -> Callable[[np.ndarray, int], list[np.ndarray]]:
    if row.startswith("faiss"):
        import faiss

        index = faiss.read_index(str(place / "index.faiss"))
        if row == "faiss hnsw":
            index.hnsw.efSearch = 64
        return lambda images, k: list(index.search(images, k)[1])
    import lancedb

    made = lancedb.connect(place).open_table("rows")

    def search(images: np.ndarray, k: int) -> list[np.ndarray]:
        queries = (made.search(image, vector_column_name="vector").distance_type("cosine") for image in images)
        return [query.limit(k).select(["row", "_distance"]).to_arrow().column("row").to_numpy() for query in queries]

    return search


def make_world(folder: Path, size: int, options: argparse.Namespace) -> None:
    """Write names, grounded and bare (fp16), records.json and features.npz."""
    if (folder / "features.npz").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    base, pool = encoded(options.cache)
    axes = principal_axes(base, pool)
    base, pool = unit(base.astype(np.float32) @ axes), unit(pool.astype(np.float32) @ axes)
    scale = widening(base, size)
    shapes = {"names": size, "grounded": size * options.descriptions, "bare": size * options.descriptions}
    arrays = {name: np.memmap(folder / name, np.float16, "w+", shape=(rows, DIM)) for name, rows in shapes.items()}
    parts = zip(
        widened(base, size, scale), widened(pool, shapes["bare"], scale, CHUNK * options.descriptions), strict=True
    )
    for start, (names, bare) in zip(range(0, size, CHUNK), parts, strict=True):
        arrays["names"][start : start + CHUNK] = names
        own = slice(start * options.descriptions, (start + CHUNK) * options.descriptions)
        arrays["bare"][own] = bare
        named = np.repeat(names, options.descriptions, axis=0)
        arrays["grounded"][own] = unit(OF_NAME * named + OF_DESCRIPTION * bare)
    for array in arrays.values():
        array.flush()
    (folder / "records.json").write_text(json.dumps([asdict(block_record(folder, name)) for name in shapes]))
    stored = [np.load(file) for file in options.features]
    picked = np.random.default_rng(0).permutation(sum(len(file["image"]) for file in stored))[: options.images]
    image, regions, weight = (
        np.concatenate([file[key] for file in stored])[picked] for key in ("image", "regions", "weight")
    )
    heaviest = np.argsort(-weight, axis=1)[:, :REGIONS]
    regions = np.take_along_axis(regions, heaviest[:, :, None], axis=1)
    weight = np.take_along_axis(weight, heaviest, axis=1)
    np.savez(folder / "features.npz", image=unit(image @ axes), regions=unit(regions @ axes), weight=weight)


def encoded(cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (BASE, D) and (POOL, D) fp16 vectors of composed names and descriptions, cached if they were encoded."""
    from recognizer.benchmark.distractors import vocabulary
    from recognizer.encoder import Encoder

    cache.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    nouns, adjectives, parts = vocabulary(), ADJECTIVES.split(), PARTS.split()
    many = len(adjectives)
    wanted = {
        "names": [
            f"a photo of a {adjectives[number % many]} {nouns[number // many]}."
            for number in rng.permutation(many * len(nouns))[:BASE]
        ],
        "descriptions": [
            f"a {adjectives[number % many]} {adjectives[number // many % many]} {parts[number // many**2]}"
            for number in rng.permutation(many**2 * len(parts))[:POOL]
        ],
    }
    for name, texts in wanted.items():
        if not (cache / f"{name}.npy").is_file():
            print(f"encoding {len(texts)} {name} ...", file=sys.stderr)
            encoder = Encoder.load("starter")
            vectors = [
                encoder.encode_texts(texts[at : at + 5000]).astype(np.float16) for at in range(0, len(texts), 5000)
            ]
            np.save(cache / f"{name}.npy", np.concatenate(vectors))
    names, descriptions = (np.load(cache / f"{name}.npy", mmap_mode="r") for name in wanted)
    return names, descriptions


def principal_axes(base: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Return (D, DIM) the directions in which texts differ most."""
    texts = np.concatenate([base[:: len(base) // 8000], pool[:: len(pool) // 4000]]).astype(np.float32)
    _, axes = np.linalg.eigh(texts.T @ texts)
    return np.ascontiguousarray(axes[:, ::-1][:, :DIM])


def widened(base: np.ndarray, size: int, scale: float, chunk: int = CHUNK) -> Iterator[np.ndarray]:
    """Yield `size` unit rows: those of the base, then rows of the base plus scaled differences of two others."""
    rng = np.random.default_rng(1)
    for start in range(0, size, chunk):
        rows = np.arange(start, min(start + chunk, size))
        one, other, another = rng.integers(len(base), size=(3, len(rows)))
        made = unit(base[one] + np.float32(scale) * (base[other] - base[another]))
        real = rows < len(base)
        made[real] = base[rows[real]]
        yield made


def widening(base: np.ndarray, size: int) -> float:
    """Find the scale at which the nearest neighbours of widened rows are as near as those of the base."""
    if size <= len(base):
        return 1.0
    target = nearest(lambda: iter([base]), len(base))
    low, high = 0.0, 1.0
    for _ in range(6):
        scale = (low + high) / 2
        found = nearest(lambda scale=scale: widened(base, size, scale), size)
        low, high = (scale, high) if np.median(found) > np.median(target) else (low, scale)
    for name, values in (("base", target), ("widened", found)):
        shown = ", ".join(f"{value:.3f}" for value in np.percentile(values, [5, 25, 50, 75, 95]))
        print(f"similarity to the nearest neighbour, {name}, percentiles 5 25 50 75 95: {shown}")
    return scale


def nearest(parts: Callable[[], Iterator[np.ndarray]], size: int) -> np.ndarray:
    """Return the similarity of 200 rows to their nearest neighbours."""
    chosen = np.sort(np.random.default_rng(2).permutation(size)[:200])
    queries, start = [], 0
    for part in parts():
        queries.append(part[chosen[(chosen >= start) & (chosen < start + len(part))] - start])
        start += len(part)
    rows = np.concatenate(queries)
    best = np.full((len(rows), 1), -1.0, np.float32)
    start = 0
    for part in parts():
        products = rows @ part.T
        inside = np.flatnonzero((chosen >= start) & (chosen < start + len(part)))
        products[inside, chosen[inside] - start] = -1
        best = np.maximum(best, products.max(1, keepdims=True))
        start += len(part)
    return best[:, 0]


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)).astype(np.float32)


def take(features: ImageFeatures, images: slice) -> ImageFeatures:
    names = ("image", "regions", "boxes_xyxy", "region_weight", "region_area")
    return ImageFeatures(**{name: getattr(features, name)[images] for name in names})


def ram() -> dict[str, int]:
    """Return anonymous and mapped memory of this process in kB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"anon": int(fields["RssAnon"].split()[0]), "mapped": int(fields["RssFile"].split()[0])}


if __name__ == "__main__":
    main()
