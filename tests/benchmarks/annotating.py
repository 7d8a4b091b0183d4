"""How busy `annotate` keeps its detector: images/s of its stage against bare forward passes over ready batches.

usage: python tests/benchmarks/annotating.py [--images 16] [--rounds 3] [--side 480] [--layers 12] [--batch 4]

The detector is an OWLv2 of the width of the published base model (768, patches of 16 pixels) with random weights; the
images are photographs of 1.1 megapixels, each with six descriptions. The two sides take turns. On a busy machine the
share of processor time tells more than that of wall time; decoding, in processes of its own, is not part of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from recognizer.console import Advance  # noqa: E402
from recognizer.demo import DATA  # noqa: E402
from tests.training.annotation.tiny_detectors import save_owlv2  # noqa: E402
from training.annotation.annotate import AnnotationSettings, annotate  # noqa: E402
from training.annotation.detector import DETECT_STAGE, open_detector  # noqa: E402
from training.annotation.inputs import read_images  # noqa: E402

TEXTS = ["red bird", "long tail", "dog", "cat", "wing", "blue"]


@dataclass(frozen=True)
class Seconds:
    """Wall time, and processor time of all threads of this process."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Seconds:
        return cls(time.perf_counter(), time.process_time())

    def since(self) -> Seconds:
        now = Seconds.now()
        return Seconds(now.wall - self.wall, now.processor - self.processor)

    def __str__(self) -> str:
        return f"{self.wall:.2f} s ({self.processor:.2f} s of processors)"


def write_images(folder: Path, count: int) -> Path:
    """Save photographs of 1.1 megapixels and a manifest with their descriptions."""
    photos = sorted((DATA / "photos").glob("*.jpg"))
    lines = []
    for number in range(count):
        with Image.open(photos[number % len(photos)]) as photo:
            size = (1200, 900) if photo.width >= photo.height else (900, 1200)
            photo.convert("RGB").resize(size).rotate(number, expand=False).save(folder / f"{number}.jpg", quality=90)
        lines.append(json.dumps({"image": f"{number}.jpg", "caption": "a photograph", "descriptions": TEXTS}))
    manifest = folder / "bare.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def bare_seconds(model: Path, images: list[Path], batch: int, device: str) -> Seconds:
    """Time forward passes over batches that are ready."""
    from transformers import Owlv2ForObjectDetection, Owlv2Processor

    processor = Owlv2Processor.from_pretrained(model)
    network = Owlv2ForObjectDetection.from_pretrained(model).to(device).eval()
    batches = []
    for start in range(0, len(images), batch):
        pictures = [Image.open(path) for path in images[start : start + batch]]
        batches.append(processor(text=[TEXTS] * len(pictures), images=pictures, return_tensors="pt"))
    with torch.inference_mode():
        network(**batches[0].to(device))
        started = Seconds.now()
        for each in batches:
            network(**each.to(device)).logits.cpu()
        return started.since()


def stage_seconds(model: Path, manifest: Path, output: Path, batch: int, device: str) -> Seconds:
    """Time the stage of the detector within `annotate`; decoding, storing and NMS count."""
    seconds: dict[str, Seconds] = {}

    @contextmanager
    def timed(total: int, unit: str, name: str) -> Iterator[Advance]:
        started = Seconds.now()
        yield lambda done, /, failed=0: None
        seconds[name] = started.since()

    settings = AnnotationSettings(detector_batch=batch, device=device)
    detector = open_detector(str(model), device=device)
    annotate(read_images([str(manifest)]), output, settings, bar=timed, detector=detector)
    return seconds[DETECT_STAGE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=480, help="of the model's input, in pixels; the base model has 960")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = save_owlv2(folder / "owlv2", side=arguments.side, width=768, heads=12, layers=arguments.layers)
        manifest = write_images(folder, arguments.images)
        images = [folder / f"{number}.jpg" for number in range(arguments.images)]
        bare, stage = [], []
        for number in range(arguments.rounds):
            bare.append(bare_seconds(model, images, arguments.batch, arguments.device))
            stage.append(stage_seconds(model, manifest, folder / f"{number}.jsonl", arguments.batch, arguments.device))
            print(f"round {number}: bare {bare[-1]}, annotate {stage[-1]}", flush=True)
    bare_rate, stage_rate = (arguments.images / statistics.median(s.wall for s in each) for each in (bare, stage))
    wall = statistics.median(b.wall / s.wall for b, s in zip(bare, stage, strict=True))
    processor = statistics.median(b.processor / s.processor for b, s in zip(bare, stage, strict=True))
    print(f"images/s: bare {bare_rate:.2f}, annotate {stage_rate:.2f}")
    print(f"share, medians of rounds: wall time {wall:.2f}, processor time {processor:.2f}")


if __name__ == "__main__":
    main()
