"""Pictures without their annotation, to be annotated by `recognizer annotate`, and the same with their exact boxes.

usage: python -m training.starter.bare_pictures SHARDS FOLDER

SHARDS is a folder that `training.starter.scene_shards` wrote with --plain 1. FOLDER then has the pictures, `bare.csv`
with the path and the name of each (the subject), `names.txt`, and `exact.jsonl`, a manifest with the exact boxes.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from recognizer.console import note
from recognizer.images import ImageLimits
from training.data.manifest import write_manifest
from training.data.record import Record, Rejects
from training.data.shards import Shards
from training.data.sources import read_sample


def write_bare(shards: Shards, folder: Path) -> int:
    """Write the pictures that show one object.

    Args:
        shards: of scenes; those of several objects are left out.
        folder: created if missing.

    Returns:
        The number of pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    exact: list[tuple[str, Record]] = []
    subjects: list[tuple[str, str]] = []
    for row in range(len(shards)):
        _, _, record = read_sample(shards, row, Rejects(), limits=ImageLimits(), target_size_hw=(1, 1))
        if len(record.regions) == 1:
            name = f"{row:06d}.jpg"
            (folder / name).write_bytes(shards.read(row).image)
            exact.append((name, record))
            subjects.append((name, record.regions[0].descriptions[0]))  # the composer puts the name first
    write_manifest(folder / "exact.jsonl", exact)
    with open(folder / "bare.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("path", "subject"), *subjects])
    names = sorted({subject for _, subject in subjects})
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return len(exact)


def main() -> None:
    """Write the pictures for the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    count = write_bare(Shards(sorted(arguments.shards.glob("*.tar"))), arguments.folder)
    note(f"{count} pictures in {arguments.folder}")


if __name__ == "__main__":
    main()
