import csv

from memory import read_labels
from training.starter.pictures import DEVELOPMENT, HELD_OUT, TRAINING, Picture, fold
from training.starter.sets import write_sets


def test_each_table_holds_the_pictures_of_its_fold_and_the_labels_those_of_all(tmp_path):
    pictures = [Picture(tmp_path / f"{number}.png", f"thing, no. {number}") for number in range(40)]
    write_sets(pictures, tmp_path / "sets", "things")
    assert [c.name for c in read_labels(tmp_path / "sets/things.txt")] == [p.name for p in pictures]
    for purpose, wanted in (("training", TRAINING), ("development", (DEVELOPMENT,)), ("held-out", (HELD_OUT,))):
        with (tmp_path / f"sets/things-{purpose}.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [(row["path"], row["label"]) for row in rows] == [
            (str(p.path), p.name) for p in pictures if fold(p.name) in wanted
        ]
        assert rows
