"""Kill commands at random moments, give them again, and compare the outcome with that of an uninterrupted one.

usage: python tests/campaign/kill_commands.py [--commands run rerank calibrate train] [--kills 10] [--seed 0]

Compared are the bytes of the results (`run`, `rerank`), of the stored settings (`calibrate`) and the tensors of the
encoder (`train`).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from memory import Memory, read_labels  # noqa: E402
from recognizer import Encoder  # noqa: E402
from recognizer.demo import DATA  # noqa: E402

TINY_MLLM = ROOT / "tests" / "rerank" / "tiny_mllm" / "model"
Case = tuple[Callable[[Path], list[str]], Callable[[Path], object]]
"""The command for an output folder, and what it made there."""


def prepare(folder: Path) -> None:
    """Make a memory, images and a labelled folder."""
    encoder = Encoder.load("starter", precision="fp32")
    Memory.build(read_labels(DATA / "labels.json"), folder / "memory", encoder=encoder, templates=["{}"])
    photos = sorted((DATA / "photos").glob("*.jpg"))
    (folder / "images").mkdir()
    for number in range(48):
        shutil.copy(photos[number % len(photos)], folder / "images" / f"{number:03}.jpg")
    (folder / "images" / "broken.jpg").write_bytes(b"no picture")


def run_case(folder: Path) -> Case:
    base = ["run", str(folder / "images"), "--memory", str(folder / "memory"), "--batch-size", "4"]
    return lambda out: [*base, "--output", str(out / "r.jsonl")], lambda out: (out / "r.jsonl").read_bytes()


def rerank_case(folder: Path) -> Case:
    results = folder / "plain" / "r.jsonl"
    results.parent.mkdir()
    recognizer(run_case(folder)[0](results.parent))
    base = ["rerank", str(results), "--images", str(folder / "images"), "--rerank-model", str(TINY_MLLM)]
    base += ["--set", "rerank.cache=off"]
    return lambda out: [*base, "--output", str(out / "r.jsonl")], lambda out: (out / "r.jsonl").read_bytes()


def calibrate_case(folder: Path) -> Case:
    from PIL import Image

    labelled = folder / "labelled"
    for photo, label in (("cat", "tabby cat"), ("coffee", "cup of coffee"), ("rocket", "rocket launch")):
        (labelled / label).mkdir(parents=True)
        with Image.open(DATA / "photos" / f"{photo}.jpg") as picture:
            for number in range(16):
                edge = 8 * number
                picture.crop((edge, edge, picture.width - edge // 2, picture.height)).save(
                    labelled / label / f"{number}.png"
                )

    def command(out: Path) -> list[str]:
        if not (out / "memory").exists():
            shutil.copytree(folder / "memory", out / "memory")
        return ["calibrate", str(labelled), "--memory", str(out / "memory"), "--figures", str(out / "figures")]

    return command, lambda out: (out / "memory" / "calibration.yaml").read_bytes()


def train_case(folder: Path) -> Case:
    import yaml

    from tests.training.runs import make_settings, write_data, write_model

    pictures = write_data(folder / "pictures")
    settings = make_settings(write_model(folder / "model"), pictures, save_every_steps=1, batch_size=2)
    (folder / "train.yaml").write_text(yaml.safe_dump(settings))
    base = ["train", str(folder / "train.yaml"), "--device", "cpu"]

    def outcome(out: Path) -> object:
        from recognizer.encoder.trained_file import TrainedFile

        tensors = TrainedFile.read(out / "run" / "encoder.safetensors").tensors
        return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}

    return lambda out: [*base, "--output", str(out / "run")], outcome


CASES = {"run": run_case, "rerank": rerank_case, "calibrate": calibrate_case, "train": train_case}


def recognizer(arguments: list[str], *, seconds: float | None = None) -> bool:
    """Run a command to its end, or kill it after some seconds; says whether it was killed.

    Raises:
        RuntimeError: it failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "recognizer", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {errors.decode()[-2000:]}")
    return False


def survive(folder: Path, name: str, kills: int, seed: int) -> dict[str, int]:
    """Kill one command again and again; returns what happened."""
    command, outcome = CASES[name](folder)
    whole = folder / f"{name}-whole"
    whole.mkdir()
    started = time.monotonic()
    recognizer(command(whole))
    seconds, expected = time.monotonic() - started, outcome(whole)
    counts = {"kills": kills, "killed at work": 0, "other outcomes": 0}
    rng = random.Random(f"{seed} {name}")
    for kill in range(kills):
        out = folder / f"{name}-{kill}"
        out.mkdir()
        counts["killed at work"] += recognizer(command(out), seconds=rng.uniform(0.3, 1) * seconds)
        recognizer(command(out))
        counts["other outcomes"] += outcome(out) != expected
        shutil.rmtree(out)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for name in arguments.commands:
            counts = survive(Path(folder), name, arguments.kills, arguments.seed)
            print(f"{name:10}", ", ".join(f"{number} {what}" for what, number in counts.items()), flush=True)
            bad += counts["other outcomes"]
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
