"""Recognise thousands of images in one run and watch the memory of the process.

usage: python tests/campaign/memory_growth.py [--images 5000]

After the first fifth of the images (weights loaded, allocator warm) the resident memory must stay within 100 MB.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
from PIL import Image  # noqa: E402

from memory import Memory, read_labels  # noqa: E402
from recognizer import Encoder, Recognizer  # noqa: E402
from recognizer.demo import DATA  # noqa: E402
from recognizer.images import list_images  # noqa: E402
from recognizer.pipeline import encode_files, in_batches  # noqa: E402
from tests.campaign.conclusion import conclude  # noqa: E402

ALLOWED_MIB = 100


def growth(folder: Path, images: int) -> tuple[float, float]:
    """Return the resident memory after a fifth of the images and its peak after that, MiB."""
    photos = sorted((DATA / "photos").glob("*.jpg"))
    (folder / "images").mkdir()
    for number, photo in enumerate(photos):
        with Image.open(photo) as picture:
            picture.convert("RGB").resize((256 + number, 256)).save(folder / "images" / f"{number}.jpg")
    for number in range(len(photos), images):
        os.link(folder / "images" / f"{number % len(photos)}.jpg", folder / "images" / f"{number}.jpg")
    encoder = Encoder.load("starter")
    memory = Memory.build(read_labels(DATA / "labels.json"), folder / "memory", encoder=encoder, templates=["{}"])
    recognizer, process, sizes = Recognizer(encoder, memory), psutil.Process(), []
    listing = list_images([folder / "images"])
    for batch in encode_files(encoder, in_batches(listing, 32)):
        if batch.features is not None:
            recognizer.rows(batch.features, [batch.items[position] for position in batch.positions])
        sizes.append(process.memory_info().rss / 2**20)
    warm = sizes[len(sizes) // 5]
    return warm, max(sizes[len(sizes) // 5 :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warm, peak = growth(Path(folder), arguments.images)
    print(f"{arguments.images} images: {warm:.0f} MiB after a fifth, at most {peak:.0f} MiB after that")
    conclude(int(peak - warm <= ALLOWED_MIB), 1, f"runs over {arguments.images} images")


if __name__ == "__main__":
    main()
