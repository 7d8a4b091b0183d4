"""Seconds of `recognizer learn` over a folder whose features are stored.

usage: python tests/benchmarks/learning.py PICTURES [--images 10000] [--corrections 200]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills. The folder has so many files, each with the
features of one of the 210 photographs of GCompris; its names are the photographs' own. It is recognised, some of its
rows are corrected, and the command learns from them. Files repeat, so the accuracy that it prints says nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from memory import Category, Memory
from memory.durable import file_sha256
from recognizer import Encoder
from recognizer.console import note
from recognizer.corrections.log import Correction, CorrectionLog
from recognizer.encoder import ImageFeatures
from recognizer.features import FeatureStore
from recognizer.images import ImageLimits, list_images
from recognizer.pipeline import EncodedBatch
from recognizer.reranking.file import read_results
from tests.benchmarks.gcompris import gcompris
from tests.benchmarks.zero_shot import encoded
from training.starter.pictures import on_white

_BATCH = 500


def store(folder: Path, photos: Path, encoder: Encoder, features: ImageFeatures) -> None:
    """Store for each file the features of a photograph."""
    items = list(list_images([photos]))
    with FeatureStore(folder, encoder.card, ImageLimits(), warn=note) as stored:
        for number, start in enumerate(range(0, len(items), _BATCH)):
            part = items[start : start + _BATCH]
            batch = EncodedBatch(
                number=number,
                items=part,
                errors=[None] * len(part),
                positions=list(range(len(part))),
                features=features.take(np.arange(start, start + len(part)) % len(features.image)).rounded(),
                hashes=[file_sha256(item.path) for item in part],
                sizes_hw=[(64, 64)] * len(part),
                decode_s=0,
                encode_s=0,
            )
            stored.keep(batch, stored.look_up(part))


def timed(*command: str | Path) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "recognizer", *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - started, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--corrections", type=int, default=200)
    arguments = parser.parse_args()
    encoder = Encoder.load("starter")
    shown = gcompris(arguments.pictures)
    features = ImageFeatures.concatenate(list(encoded(encoder, [on_white(picture) for picture in shown])))
    names = list(dict.fromkeys(picture.name for picture in shown))
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "photos").mkdir()
        for number in range(arguments.images):
            Image.new("RGB", (64, 64), (number % 256, number // 256 % 256, 0)).save(
                place / "photos" / f"{number:06}.png"
            )
        store(place / "features", place / "photos", encoder, features)
        Memory.build(map(Category, names), place / "memory", encoder=encoder, templates=encoder.default_templates)
        common = ("--memory", place / "memory", "--features", place / "features")
        seconds, _ = timed("run", place / "photos", *common, "--output", place / "rows.jsonl")
        print(f"run over {arguments.images} images, start included: {seconds:.1f} s")
        rows = read_results(place / "rows.jsonl").rows
        log = CorrectionLog(place / "c.jsonl")
        chosen = np.random.default_rng(0).permutation(len(rows))[: arguments.corrections]
        log.append(
            Correction(
                id=str(row),
                path=rows[row].path,
                new=shown[int(rows[row].path[:6]) % len(shown)].name,
                old=rows[row].label,
            )
            for row in chosen
        )
        seconds, said = timed("learn", place / "c.jsonl", *common, "--results", place / "rows.jsonl")
        print(f"learn of {arguments.corrections} corrections, start included: {seconds:.1f} s")
        print(
            "\n".join(line for line in said.splitlines() if line.startswith(("learnt", "accuracy")) or "scored" in line)
        )


if __name__ == "__main__":
    main()
