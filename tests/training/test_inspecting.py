"""The command `inspect`."""

import re

import pytest
from PIL import Image

from tests.recognizer.commands import call
from tests.training.runs import write_data
from training.errors import DataError


def test_a_manifest_is_shown_and_counted(tmp_path, monkeypatch):
    write_data(tmp_path, 6, bad=["{\n"])
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("inspect", "train.jsonl", "--output", "new/sheet.png", "--images", "4")
    assert code == 0
    assert re.search(r"^boxes per image +6 +1\.17 +0 ", out, re.MULTILINE)
    assert "6 images, 2 of them without boxes" in out
    assert "in descriptions: something" in out or "in descriptions: square" in out
    assert "1 of 7 samples could not be used: not JSON 1" in out
    assert f"contact sheet of 4 images: {tmp_path / 'new' / 'sheet.png'}" in out
    with Image.open("new/sheet.png") as sheet:
        assert sheet.width > sheet.height > 500


def test_the_seed_draws_the_images(tmp_path, pictures):
    sheets = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert call("inspect", str(pictures), "--output", str(tmp_path / name), "--images", "1", "--seed", seed)[0] == 0
        sheets.append((tmp_path / name).read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_data_without_a_usable_sample_gives_no_sheet(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("{\n")
    code, _, err = call("inspect", str(path), "--output", str(tmp_path / "sheet.png"))
    assert code == 1
    assert "no sample can be used" in err
    assert not (tmp_path / "sheet.png").exists()


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"train\.jsonl: the manifest cannot be read: No such file or directory$"):
        call("inspect", str(tmp_path / "train.jsonl"))
