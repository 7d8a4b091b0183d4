"""Mutate files of every kind and read them: the same answer or an error of ours, never another answer or a traceback.

usage: python tests/campaign/mutations.py [--count 10000] [--seed 0] [--kinds memory index labels ...]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from memory import Category, Description, Memory, MemoryStoreError, read_labels  # noqa: E402
from recognizer.demo import DATA  # noqa: E402
from recognizer.errors import RecognizerError  # noqa: E402
from recognizer.images import decode_image  # noqa: E402
from recognizer.settings import load_settings  # noqa: E402
from tests.campaign.conclusion import conclude  # noqa: E402
from tests.memory.building import build, exported  # noqa: E402
from tests.memory.fake_encoder import FakeEncoder  # noqa: E402
from training.errors import TrainingError  # noqa: E402

FOREIGN = [b"[" * 300, b'"', b"\n", "\u202e".encode(), b"1e999", b"{}", b":"]
ERRORS = (MemoryStoreError, RecognizerError, TrainingError)
SLOW_S = 2
"""Time of a processor that counts as a hang; unchanged, each file here is read in milliseconds."""
SMALL_BYTES = 4096


@dataclass(frozen=True)
class Target:
    """A set of files, and what reads them.

    Attributes:
        files: mutated one at a time.
        read: given the file that was mutated, returns what is compared with the answer for the unchanged files.
        vouched: whether another answer than that is a fault; where no hash vouches for a file it is not.
    """

    files: list[Path]
    read: Callable[[Path], object]
    vouched: bool


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return other content: a flipped bit, a cut, zeros, doubled, deleted or foreign bytes."""
    if not data:
        return b"\0"
    changed = bytearray(data)
    start = rng.randrange(len(data))
    length = min(len(data) - start, rng.choice([1, 4, 64, 4096]))
    kind = rng.choice(["bit", "bit", "byte", "cut", "zeros", "double", "delete", "foreign"])
    if kind == "bit":
        changed[start] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        changed[start] = rng.randrange(256)
    elif kind == "cut":
        del changed[start:]
    elif kind == "zeros":
        changed[start : start + length] = bytes(length)
    elif kind == "double":
        changed[start:start] = changed[start : start + length]
    elif kind == "delete":
        del changed[start : start + length]
    else:
        changed[start : start + length] = rng.choice(FOREIGN)
    return bytes(changed)


def count_outcomes(target: Target, count: int, rng: random.Random) -> Counter[str]:
    """Mutate files, one at a time, and count what their reader does; one that is slow counts twice."""
    expected = {path: target.read(path) for path in target.files}
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        path = rng.choice(target.files)
        data = path.read_bytes()
        other = mutate(data, rng)
        path.write_bytes(other)
        started = time.process_time()
        try:
            answer = target.read(path)
        except ERRORS:
            outcomes["refused"] += 1
        except Exception as error:  # noqa: BLE001  what the campaign looks for
            outcomes[f"TRACEBACK {type(error).__name__}: {str(error)[:100]} in {path.name}"] += 1
        else:
            same = answer == expected[path]
            outcomes["same answer" if same else "ANOTHER ANSWER" if target.vouched and other != data else "read"] += 1
        finally:
            path.write_bytes(data)
        if time.process_time() - started > SLOW_S:
            outcomes[f"SLOW {path.name}"] += 1
    return outcomes


def memory_target(folder: Path) -> Target:
    categories = [Category(f"thing {n}", descriptions=(Description(f"part {n}"),)) for n in range(20)]
    directory = folder / "memory"
    build(categories, directory, FakeEncoder())
    Memory.open(directory).add([Category("late")], encoder=FakeEncoder())
    files = [path for path in directory.rglob("*") if path.is_file() and path.name not in ("memory.lock",)]
    return Target(files, lambda _: exported(Memory.open(directory)), vouched=True)


def index_target(folder: Path) -> Target:
    directory = folder / "indexed"
    build([Category(f"thing {n}") for n in range(50)], directory, FakeEncoder(), index="hnsw")
    files = list(directory.glob("index/*"))
    query = np.eye(16, dtype=np.float32)[:1]

    def read(_: Path) -> object:
        with tempfile.TemporaryDirectory() as copy:  # where a damaged index is built again, under another name
            shutil.copytree(directory, copy, dirs_exist_ok=True)
            scores, rows = Memory.open(copy).index().search(query, 5)
        return scores.round(5).tolist(), rows.tolist()

    return Target(files, read, vouched=True)


def labels_target(folder: Path) -> Target:
    folder = folder / "labels"
    folder.mkdir()
    texts = {
        "a.txt": "red fox\n# no name\nkestrel\n",
        "a.csv": "name,description,group\nred fox,bushy tail,mammal\nkestrel,hovers,bird\n",
        "a.tsv": "name\tdescription\nred fox\tbushy tail\n",
        "a.json": json.dumps({"red fox": ["bushy tail", "pointed ears"], "kestrel": ["hovers"]}),
        "b.json": json.dumps({"categories": [{"id": 1, "name": "red fox"}, {"id": 2, "name": "kestrel"}]}),
        "a.jsonl": '{"name": "red fox", "descriptions": ["bushy tail"]}\n{"name": "kestrel"}\n',
        "data.yaml": "train: a\nnc: 2\nnames: [red fox, kestrel]\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    corpus = ROOT / "tests" / "corpus" / "labels"
    for path in corpus.rglob("*") if corpus.exists() else ():
        if path.is_file() and path.stat().st_size < 20_000:
            (folder / path.name).write_bytes(path.read_bytes())
    return Target(list(folder.iterdir()), read_names, vouched=False)


def read_names(path: Path) -> object:
    try:
        return [category.name for category in read_labels(path)]
    except ERRORS as error:  # some files of the corpus are refused as they are
        return str(error)


def settings_target(folder: Path) -> Target:
    path = folder / "run.yaml"
    path.write_bytes((ROOT / "configs" / "run.yaml").read_bytes())
    return Target([path], load_settings, vouched=False)


def images_target(folder: Path) -> Target:
    from PIL import Image

    folder = folder / "images"
    folder.mkdir()
    with Image.open(DATA / "photos" / "cat.jpg") as picture:
        small = picture.convert("RGB").resize((96, 80))
    for suffix in ("jpg", "png", "webp", "gif", "bmp", "tiff", "avif", "jp2", "ppm"):
        small.save(folder / f"a.{suffix}")
    return Target(list(folder.iterdir()), lambda path: decode_image(path).image.tobytes(), vouched=False)


def weights_target(folder: Path) -> Target:
    from recognizer.encoder.starter.starter import GROUNDED_FILE
    from recognizer.encoder.trained_file import TrainedFile

    path, whole = folder / "encoder.safetensors", TrainedFile.read(GROUNDED_FILE)
    # Without its large tensors, so that many mutations meet the header.
    small = {name: tensor for name, tensor in whole.tensors.items() if tensor.nbytes <= SMALL_BYTES}
    path.write_bytes(replace(whole, tensors=small).to_bytes())
    # Safetensors has no checksum: other weights are read as they are, and the encoder's fingerprint is another.
    return Target([path], lambda _: TrainedFile.read(path).tensors.keys(), vouched=False)


def checkpoint_target(folder: Path) -> Target:
    from tests.campaign.writes import WRITES  # imports torch

    write = WRITES["first checkpoint"]
    write.act(folder)
    return Target([path for path in folder.rglob("*") if path.is_file()], lambda _: write.read(folder), vouched=True)


KINDS: dict[str, tuple[Callable[[Path], Target], int]] = {
    "memory": (memory_target, 5),
    "checkpoint": (checkpoint_target, 1),
    "images": (images_target, 10),
    "labels": (labels_target, 5),
    "settings": (settings_target, 5),
    "index": (index_target, 3),
    "weights": (weights_target, 10),
}
"""By kind, how its files are made, and its share of the mutations beside other kinds."""


def run(count: int, seed: int, kinds: list[str]) -> dict[str, Counter[str]]:
    """Mutate `count` times, shared among the kinds; returns the outcomes of each."""
    whole, outcomes = sum(KINDS[kind][1] for kind in kinds), {}
    for kind in kinds:
        make, share = KINDS[kind]
        with tempfile.TemporaryDirectory() as folder:
            rng = random.Random(f"{seed} {kind}")
            outcomes[kind] = count_outcomes(make(Path(folder)), max(1, round(count * share / whole)), rng)
    return outcomes


def faults(outcomes: dict[str, Counter[str]]) -> dict[str, int]:
    """Return the outcomes that must not be."""
    return {
        f"{kind}: {what}": number
        for kind, counts in outcomes.items()
        for what, number in counts.items()
        if what.startswith(("TRACEBACK", "ANOTHER", "SLOW"))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    arguments = parser.parse_args()
    outcomes = run(arguments.count, arguments.seed, arguments.kinds)
    for kind, counts in outcomes.items():
        print(f"{kind:10}", ", ".join(f"{number} {what}" for what, number in counts.most_common()))
    bad = faults(outcomes)
    total = sum(counts.total() for counts in outcomes.values())
    conclude(total - sum(bad.values()), total, "mutations")


if __name__ == "__main__":
    main()
