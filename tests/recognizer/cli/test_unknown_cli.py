"""The commands of a memory with negative labels."""

import json

import pytest

from memory import Memory
from recognizer.errors import RecognizerError
from recognizer.results import ResumeRefused
from tests.recognizer.commands import call


@pytest.fixture
def few_candidates(monkeypatch):
    """Four thousand nouns take longer than this test."""
    monkeypatch.setattr("recognizer.unknown.mining.CANDIDATES", 40)


def test_negative_labels_are_built_kept_used_and_given_up(few_candidates, tmp_path, photos):
    labels, memory, output = tmp_path / "labels.txt", tmp_path / "memory", tmp_path / "rows.jsonl"
    labels.write_text("tabby cat\nrocket launch\n")
    build = ("build", labels, "--memory", memory, "--precision", "fp32")
    code, out, _ = call(*build, "--unknown", "negatives")
    assert (code, "42 encoded" in out) == (0, True)
    assert "nothing to do" in call(*build)[1]
    assert Memory.open(memory).info().negatives == 40

    run = ("run", photos / "cat.jpg", "--memory", memory, "--output", output, "--precision", "fp32")
    code, _, err = call(*run)
    assert (code, "19 exemplars" in err) == (0, True)
    row = json.loads(output.read_text())
    assert row["unknown"] is None
    assert row["known"]["category"] == "tabby cat"
    assert row["known"]["negative"] in Memory.open(memory).vectors.negative_names
    with pytest.raises(ResumeRefused, match=r"unknown\.rule"):
        call(*run, "--set", "unknown.rule=confidence")
    calibrate = ("calibrate", photos, "--memory", memory, "--known", "--precision", "fp32")
    with pytest.raises(RecognizerError, match="19 images of the categories; there are 12"):
        call(*calibrate)
    code, out, _ = call(*calibrate, "--set", "unknown.rate=0.1")
    assert (code, "at most 10.0%" in out) == (0, True)
    assert call(*run, "--overwrite")[0] == 0
    assert json.loads(output.read_text())["unknown"] is False

    more = tmp_path / "more.txt"
    more.write_text("zebra\n")
    assert "1 encoded, 40 reused" in call("add", more, "--memory", memory, "--precision", "fp32")[1]
    assert Memory.open(memory).info().negatives == 40
    assert call(*build, "--unknown", "confidence")[0] == 0
    assert Memory.open(memory).info().negatives == 0
    with pytest.raises(RecognizerError, match="Build it again with --unknown negatives"):
        call(*run, "--overwrite", "--set", "unknown.rule=negatives")
