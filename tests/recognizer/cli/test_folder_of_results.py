"""Each command that reads results takes the folder that a run on Ray fills, as it takes a file."""

import contextlib
import json
import shutil

import pytest

from recognizer.corrections.again import learnt_path
from recognizer.corrections.log import CorrectionLog
from recognizer.demo import DATA
from recognizer.results.errors import OutputUnusable
from recognizer.results.tables import write_parquet
from recognizer.review.session import ReviewSession
from recognizer.settings import Settings
from tests.recognizer.commands import call
from tests.recognizer.report.runs import write_shards


@pytest.fixture(scope="module")
def place(tmp_path_factory, demo_memory, encoders_loaded_once):
    """Results as JSON lines, as Parquet alone, and as a folder."""
    place = tmp_path_factory.mktemp("folders")
    (place / "photos").mkdir()
    for photo in sorted((DATA / "photos").glob("*.jpg"))[:3]:
        shutil.copy(photo, place / "photos")
    (place / "photos" / "broken.jpg").write_bytes(b"no image")
    options = ("--memory", demo_memory, "--features", place / "f", "--precision", "fp32")
    assert call("run", place / "photos", *options, "--output", place / "rows.jsonl")[0] == 0
    write_parquet(place / "rows.jsonl", place / "rows.parquet")
    write_shards(place / "rows", place / "rows.jsonl", files=2)
    return place


@pytest.mark.parametrize(
    ("name", "format"),
    [("rows", "csv"), ("rows", "coco"), ("rows", "megadetector"), ("rows", "labelstudio"), ("rows.parquet", "csv")],
)
def test_exports_are_the_same(place, name, format):
    written = []
    for results in (place / "rows.jsonl", place / name):
        output = place / f"export.{results.suffix}.{format}"
        assert call("export-results", results, "--format", format, "--output", output)[0] == 0
        written.append(output.read_text())
    assert written[0] == written[1]
    with pytest.raises(OutputUnusable, match="holds the results themselves"):
        call("export-results", place / "rows", "--format", format, "--output", place / "rows" / "new.csv")


def test_corrections_of_it_are_learnt(place, demo_memory, tmp_path, encoders_loaded_once):
    before = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
    (tmp_path / "c.jsonl").write_text(json.dumps({"path": before[0]["path"], "new": "a new thing"}) + "\n")
    shutil.copytree(demo_memory, tmp_path / "memory")
    options = ("--memory", tmp_path / "memory", "--features", place / "f")
    learnt = learnt_path(place / "rows")
    assert call("learn", tmp_path / "c.jsonl", "--results", place / "rows", *options)[0] == 0
    after = [json.loads(line) for line in learnt.read_text().splitlines()]
    assert [row["path"] for row in after] == [row["path"] for row in before]
    assert after[0]["label"] == "a new thing"


def test_it_is_reviewed(place, starter, demo_memory, tmp_path):
    shown = {}
    for results in (place / "rows.jsonl", place / "rows"):
        session = ReviewSession(
            results=results,
            memory=demo_memory,
            log=CorrectionLog(tmp_path / f"{results.name}.corrections"),
            report=tmp_path / f"page of {results.name}",
            encoder=lambda: starter,
            open_features=lambda _: contextlib.nullcontext(None),
            settings_of=lambda _: Settings(),
            warn=print,
        )
        shown[results.suffix] = session.state()
        session.correct(session.state()["queue"][0], "unknown", id="1")
        session.close()
    assert shown[".jsonl"] == shown[""]
    assert len(shown[""]["queue"]) == 3


def test_results_after_learning_are_json_lines(tmp_path):
    names = ["rows.jsonl", "rows.NDJSON", "rows.csv", "rows", "day.1"]
    assert [learnt_path(tmp_path / name).name for name in names] == [
        "rows.learnt.jsonl",
        "rows.learnt.NDJSON",
        "rows.learnt.jsonl",
        "rows.learnt.jsonl",
        "day.learnt.jsonl",
    ]
