"""Labelled sets for the evaluation of a training run, from the fetched pictures.

usage: python -m training.starter.sets PICTURES FOLDER

Writes FOLDER/stamps.txt, the names of all folds, and the tables FOLDER/stamps-development.csv and
FOLDER/stamps-held-out.csv, the photographs of one fold each, as `evaluation` in a training config names them. The
photographs of the training folds are in FOLDER/stamps-training.csv, as `recognizer annotate` reads them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from training.starter.pictures import DEVELOPMENT, HELD_OUT, TRAINING, Picture, fold, stamps


def write_sets(pictures: list[Picture], folder: Path, name: str) -> None:
    """Write the label file and the three tables of one set.

    Args:
        pictures: of all folds.
        folder: created if missing.
        name: prefix of the file names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(picture.name for picture in pictures)
    (folder / f"{name}.txt").write_text("".join(f"{each}\n" for each in names), encoding="utf-8")
    for purpose, folds in (("training", TRAINING), ("development", (DEVELOPMENT,)), ("held-out", (HELD_OUT,))):
        with (folder / f"{name}-{purpose}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["path", "label"])
            writer.writerows([p.path.resolve(), p.name] for p in pictures if fold(p.name) in folds)


def main() -> None:
    """Write the sets of the stamps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    write_sets(stamps(arguments.pictures), arguments.folder, "stamps")


if __name__ == "__main__":
    main()
