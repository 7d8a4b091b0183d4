"""The command `benchmark` from options to table and file."""

import json
import shutil

import pytest

from recognizer.benchmark.bench import LayoutError
from tests.recognizer.benchmark.test_retrieval import karpathy
from tests.recognizer.commands import call


def test_zero_shot_of_a_labelled_folder_with_descriptions_and_stored_features(tmp_path, photos):
    for label, name in (("tabby cat", "cat"), ("cup of coffee", "coffee")):
        (tmp_path / "mine" / label).mkdir(parents=True)
        shutil.copy(photos / f"{name}.jpg", tmp_path / "mine" / label)
    (tmp_path / "words.json").write_text('{"tabby cat": ["striped fur"], "cup of coffee": ["white cup"]}')
    given = ["--labelled", tmp_path / "mine", "--descriptions", tmp_path / "words.json", "--model", "starter"]
    given += ["--features", tmp_path / "features", "--json", tmp_path / "t.json", "--alpha", "0.25"]
    code, out, _ = call("benchmark", "zero-shot", *given)
    assert code == 0
    assert out.splitlines()[2].startswith("mine  names, per-set templates ")
    document = json.loads((tmp_path / "t.json").read_text())
    assert [row["mean"] for row in document["rows"]][:2] == [1.0, 1.0]
    assert document["rows"][-1]["what"] == "GRAIN's formula, alpha 0.25, per-set templates"
    assert all(row["encoder"].startswith("starter") for row in document["rows"])
    assert call("benchmark", "zero-shot", *given)[1] == out


def test_retrieval_of_a_folder(tmp_path):
    karpathy(tmp_path)
    code, out, _ = call("benchmark", "retrieval", "--data", tmp_path, "--model", "starter")
    assert code == 0
    assert out.count("flickr30k test") == 12


def test_a_folder_of_another_layout_is_refused(tmp_path):
    with pytest.raises(LayoutError, match="has nothing, and none of the data sets"):
        call("benchmark", "zero-shot", "--data", tmp_path, "--model", "starter")
