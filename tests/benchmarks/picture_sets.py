"""The public pictures as data of `recognizer benchmark`.

usage: python tests/benchmarks/picture_sets.py PICTURES FOLDER [--fold 0]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills. It writes

- FOLDER/emoji/train.csv and test.csv: the emoji of one fold's names (0 is held out), in three styles to learn from and
  in the fourth to test
- FOLDER/animals/train.csv and test.csv: those of them that are animals by WordNet, one style for guessing their names
  and three to test
- FOLDER/gcompris.csv: photographs of 121 things, most of them one or two of each
- FOLDER/gcompris.txt: their names
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path

from recognizer.describing.wordnet.nouns import nouns
from tests.benchmarks.gcompris import gcompris
from training.starter.emoji import STYLES, emoji
from training.starter.pictures import Picture, fold


def write_table(path: Path, pictures: Iterable[Picture]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label"])
        writer.writerows([picture.path.resolve(), picture.name] for picture in pictures)


def is_animal(name: str) -> bool:
    """Tell whether a whole name is a noun whose most frequent meaning is an animal."""
    entry = nouns().find(name)
    return entry is not None and entry.words == name and entry.senses[0].kind == "animal"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fold", type=int, default=0, help="of the names of the emoji; choose on 1")
    arguments = parser.parse_args()
    styles = [[p for p in emoji(arguments.pictures, s) if fold(p.name) == arguments.fold] for s in STYLES]
    animals = [[picture for picture in style if is_animal(picture.name)] for style in styles]
    for folder, train, test in (("emoji", styles[:3], styles[3:]), ("animals", animals[:1], animals[1:])):
        write_table(arguments.folder / folder / "train.csv", (picture for style in train for picture in style))
        write_table(arguments.folder / folder / "test.csv", (picture for style in test for picture in style))
    photographs = gcompris(arguments.pictures)
    write_table(arguments.folder / "gcompris.csv", photographs)
    names = dict.fromkeys(picture.name for picture in photographs)
    (arguments.folder / "gcompris.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


if __name__ == "__main__":
    main()
