import json

import pytest
from PIL import Image

from recognizer.benchmark.bench import Bench
from recognizer.benchmark.novel import novel
from recognizer.evaluation.labelled import LabelledSetError
from recognizer.settings import Settings
from tests.recognizer.commands import call
from tests.remembering import remembering

SHOWN = {"mug": "coffee", "space ship": "rocket", "pet": "cat"}


@pytest.fixture(scope="module")
def products(tmp_path_factory, photos):
    """Parts of photographs of the demo: three to test and one exemplar of each thing."""
    folder = tmp_path_factory.mktemp("products")
    for name, photograph in SHOWN.items():
        with Image.open(photos / f"{photograph}.jpg") as image:
            for number in range(4):
                place = folder / ("test" if number else "train") / name / f"{number}.jpg"
                place.parent.mkdir(parents=True, exist_ok=True)
                image.crop((8 * number, 0, image.width, image.height)).resize((120, 90)).save(place)
    (folder / "labels.json").write_text(json.dumps({"mug": ["brown liquid"], "space ship": ["fire"], "pet": ["fur"]}))
    return folder


def test_each_part_is_a_row_and_exemplars_are_drawn_for_each_seed(starter, products):
    table = novel(Bench(remembering(starter), Settings()), products, labels=products / "labels.json", seeds=2)
    rows = {(row.what, row.metric): row for row in table.rows}
    ways = list(dict.fromkeys(what for what, _ in rows))
    assert [way for way in ways if "control" not in way] == ["names", "+ descriptions", "+ regions", "+ exemplars"]
    assert len(rows["+ exemplars", "top-1"].values) == 2
    assert rows["+ exemplars", "top-1"].mean >= rows["names", "top-1"].mean
    assert {row.n for row in table.rows} == {9}


def test_without_a_label_file_the_labels_are_names_and_without_shots_there_are_no_exemplars(starter, products):
    table = novel(Bench(remembering(starter), Settings()), products, shots=0, seeds=1)
    assert {row.what for row in table.rows} == {"names", "+ regions"}


def test_a_label_file_of_other_names_is_refused(starter, products, tmp_path):
    (tmp_path / "other.txt").write_text("owl\ngull\n")
    with pytest.raises(LabelledSetError, match="is a category"):
        novel(Bench(remembering(starter), Settings()), products, labels=tmp_path / "other.txt", seeds=1)


@pytest.mark.usefixtures("encoders_loaded_once")
def test_commands_print_the_table_with_the_encoder_and_write_it_as_json(products, tmp_path):
    for name, options in {
        "few-shot": ["--shots", "1", "--in-file-order"],
        "candidates": ["--candidates", "9", "--seeds", "1", "--diagram", str(tmp_path / "curve.png")],
        "fine-grained": ["--root", "dog", "--seeds", "1"],
        "novel": ["--shots", "0", "--seeds", "1"],
    }.items():
        common = ["--data", products, "--model", "starter", "--json", tmp_path / "t.json"]
        common += ["--features", tmp_path / "features"]
        code, shown, _ = call("benchmark", name, *common, *options)
        assert code == 0
        assert "starter" in shown
        written = json.loads((tmp_path / "t.json").read_text())
        assert written["protocol"] == name
        assert all(row["mean"] is not None for row in written["rows"])
