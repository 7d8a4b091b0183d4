"""The table of a protocol as text and JSON."""

import json

import pytest

from memory import EncoderCard
from recognizer.benchmark.table import BenchmarkRow, BenchmarkTable

CARD = EncoderCard("tiny", "0" * 64, "fp32", 4, {"kind": "tiny"})


def test_mean_and_spread_are_over_the_seeds():
    row = BenchmarkRow("Food101", "4 shots", "top-1", (0.5, 0.7, 0.9), 10)
    assert row.mean == pytest.approx(0.7)
    assert row.spread == pytest.approx(0.2)
    assert BenchmarkRow("Food101", "names", "top-1", (0.5,), 10).spread is None
    assert BenchmarkRow("Food101", "", "top-1", (), 0, "not there").mean is None


def test_every_row_names_the_encoder(tmp_path):
    rows = [BenchmarkRow("A", "x", "top-1", (0.25,), 4), BenchmarkRow("B", "", "top-1", (), 0, "not there")]
    table = BenchmarkTable("zero-shot", CARD, rows, notes=["a note"], options={"alpha": 0.5})
    text = "\n".join(table.lines())
    assert text.splitlines()[0].split() == ["data", "what", "metric", "mean", "spread", "n", "encoder", "note"]
    assert [line.split() for line in text.splitlines()[2:4]] == [
        ["A", "x", "top-1", "0.2500", "4", "tiny"],
        ["B", "top-1", "0", "tiny", "not", "there"],
    ]
    assert text.splitlines()[-1] == "a note"
    table.write_json(tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text())
    assert [row["encoder"] for row in document["rows"]] == ["tiny", "tiny"]
    assert document["rows"][0]["values"] == [0.25]
    assert document["rows"][1]["mean"] is None
    assert document["encoder"] == {"name": "tiny", "fingerprint": "0" * 64, "precision": "fp32"}
    assert document["options"] == {"alpha": 0.5}
