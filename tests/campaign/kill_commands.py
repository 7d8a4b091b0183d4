"""Kill commands at random moments of their work, give them again, and compare with what an uninterrupted one made.

usage: python tests/campaign/kill_commands.py [--commands run rerank ...] [--kills 10] [--seed 0]

Compared are the bytes of the results (`run`, `rerank`), of the stored settings (`calibrate`) and the tensors of the
encoder (`train`, `ranks`: training on two ranks). Of two ranks, both are killed, or one at random: the other must end.
"""

from __future__ import annotations

import argparse
import contextlib
import math
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

import psutil  # noqa: E402

from memory import Memory, read_labels  # noqa: E402
from recognizer import Encoder  # noqa: E402
from recognizer.demo import DATA  # noqa: E402
from tests.campaign.conclusion import conclude  # noqa: E402

TINY_MLLM = ROOT / "tests" / "rerank" / "tiny_mllm" / "model"
RECOGNIZER = ["-m", "recognizer"]
TWO_RANKS = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *RECOGNIZER]
IMAGES = 96  # so that a run is at work as long as it takes to start
STARTED = 0.5  # share of a command's time before which it is not killed, as it has done little more than import torch
LOOK_EVERY_S = 0.02
RANK_SECONDS = 120  # after one rank is killed, torchrun has ended the other one long before
Case = tuple[Callable[[Path], list[str]], Callable[[Path], object]]
"""The arguments of Python for an output folder, and what they made there."""


def prepare(folder: Path) -> None:
    """Make a memory, images and a labelled folder."""
    encoder = Encoder.load("starter", precision="fp32")
    Memory.build(read_labels(DATA / "labels.json"), folder / "memory", encoder=encoder, templates=["{}"])
    photos = sorted((DATA / "photos").glob("*.jpg"))
    (folder / "images").mkdir()
    for number in range(IMAGES):
        shutil.copy(photos[number % len(photos)], folder / "images" / f"{number:03}.jpg")
    (folder / "images" / "broken.jpg").write_bytes(b"no picture")


def run_case(folder: Path) -> Case:
    base = [*RECOGNIZER, "run", str(folder / "images"), "--memory", str(folder / "memory"), "--batch-size", "4"]
    return lambda out: [*base, "--output", str(out / "r.jsonl")], lambda out: (out / "r.jsonl").read_bytes()


def rerank_case(folder: Path) -> Case:
    results = folder / "plain" / "r.jsonl"
    results.parent.mkdir()
    python(run_case(folder)[0](results.parent))
    base = [*RECOGNIZER, "rerank", str(results), "--images", str(folder / "images"), "--rerank-model", str(TINY_MLLM)]
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
        base = [*RECOGNIZER, "calibrate", str(labelled), "--memory", str(out / "memory")]
        return [*base, "--figures", str(out / "figures")]

    return command, lambda out: (out / "memory" / "calibration.yaml").read_bytes()


def train_case(folder: Path, launcher: list[str] = RECOGNIZER, epochs: int = 2) -> Case:
    import yaml

    from tests.training.runs import make_settings, write_data, write_model

    place = folder / f"training-{len(launcher)}"
    place.mkdir()
    pictures, model = write_data(place / "pictures"), write_model(place / "model")
    settings = make_settings(model, pictures, save_every_steps=1, batch_size=2, schedule={"epochs": epochs})
    (place / "train.yaml").write_text(yaml.safe_dump(settings))
    base = [*launcher, "train", str(place / "train.yaml"), "--device", "cpu"]

    def outcome(out: Path) -> object:
        from recognizer.encoder.trained_file import TrainedFile

        tensors = TrainedFile.read(out / "run" / "encoder.safetensors").tensors
        return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}

    return lambda out: [*base, "--output", str(out / "run")], outcome


def ranks_case(folder: Path) -> Case:
    return train_case(folder, TWO_RANKS, epochs=12)


CASES = {
    "run": run_case,
    "rerank": rerank_case,
    "calibrate": calibrate_case,
    "train": train_case,
    "ranks": ranks_case,
}


def python(
    arguments: list[str], *, processor_s: float = math.inf, one_rank: random.Random | None = None
) -> tuple[bool, float]:
    """Run a command to its end, or kill it once it has used so much time of a processor, with all its processes.

    Args:
        arguments: of Python.
        processor_s: seconds; unlike those of a clock, they say how far a command is also on a busy machine.
        one_rank: chooses one of the processes that the command started, which alone is killed.

    Returns:
        Whether it was killed, and the seconds of a processor that it was seen to use.

    Raises:
        RuntimeError: it failed, or did not end after one of its processes was killed.
    """
    environment, used = os.environ | {"OMP_NUM_THREADS": "1"}, 0.0
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=errors
        )
        while process.poll() is None:
            used = max(used, processor_seconds(process.pid))
            if used >= processor_s:
                kill(process, one_rank)
                return True, used
            time.sleep(LOOK_EVERY_S)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(arguments)} failed: {errors.read().decode()[-2000:]}")
    return False, used


def processor_seconds(pid: int) -> float:
    """Return the time of a processor that a process and those that it started have used."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(pid)
        return sum(sum(each.cpu_times()[:4]) for each in (family, *family.children(recursive=True)))
    return 0.0


def kill(process: subprocess.Popen[bytes], one_rank: random.Random | None) -> None:
    """Kill a command with all it started, or one of its processes; wait for its end."""
    started = psutil.Process(process.pid).children(recursive=True)
    if one_rank is not None and started:
        one_rank.choice(started).kill()
        try:
            process.wait(RANK_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError("one rank was killed, and the others went on") from error
    else:
        process.kill()
        for child in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()


def survive(folder: Path, name: str, kills: int, seed: int) -> dict[str, int]:
    """Kill one command again and again; returns what happened."""
    command, outcome = CASES[name](folder)
    whole = folder / f"{name}-whole"
    whole.mkdir()
    (_, seconds), expected = python(command(whole)), outcome(whole)
    counts = {"kills": kills, "killed before the end": 0, "of these with files written": 0, "other outcomes": 0}
    rng = random.Random(f"{seed} {name}")
    for kill in range(kills):
        out = folder / f"{name}-{kill}"
        out.mkdir()
        arguments, before = command(out), set(out.rglob("*"))
        one_rank = rng if name == "ranks" and rng.random() < 0.5 else None
        killed, _ = python(arguments, processor_s=rng.uniform(STARTED, 1) * seconds, one_rank=one_rank)
        counts["killed before the end"] += killed
        counts["of these with files written"] += killed and set(out.rglob("*")) != before
        python(command(out))
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
    kills = arguments.kills * len(arguments.commands)
    conclude(kills - bad, kills, "kills of commands")


if __name__ == "__main__":
    main()
