import json

import pytest

from recognizer.results import encode_row
from recognizer.results.errors import ResultsUnreadable
from recognizer.results.reading import open_stored
from recognizer.results.row import FoundLabel, RowBox, parse_row
from recognizer.results.tables import write_csv, write_parquet
from tests.recognizer.report.runs import mixed_rows, result, write_run


def as_read(rows):
    """The rows as their JSON gives them back."""
    return [parse_row(json.loads(encode_row(row))) for row in rows]


def test_json_lines_give_the_rows_and_what_made_them(tmp_path):
    rows = mixed_rows(60)
    stored = open_stored(write_run(tmp_path / "r.jsonl", rows, tmp_path))
    assert list(stored.rows()) == as_read(rows)
    assert (stored.damaged, stored.is_finished, stored.info.input_root) == (0, True, str(tmp_path))
    (tmp_path / "r.jsonl.run.json").unlink()
    alone = open_stored(tmp_path / "r.jsonl")
    assert (alone.info, alone.is_finished) == (None, True)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_read_by_its_journal(tmp_path, suffix):
    rows = mixed_rows(10)
    journal = write_run(tmp_path / f"t.{suffix}.journal.jsonl", rows, None)
    (write_csv if suffix == "csv" else write_parquet)(journal, tmp_path / f"t.{suffix}")
    assert list(open_stored(tmp_path / f"t.{suffix}").rows()) == as_read(rows)


@pytest.mark.parametrize("boxes", [False, True])
def test_parquet_without_its_journal_gives_the_rows_again(tmp_path, monkeypatch, boxes):
    monkeypatch.setattr("recognizer.results.reading.LINES_PER_BATCH", 7)  # rows that span two batches
    rows = mixed_rows(120)
    found = FoundLabel(category="owl", group="bird", presence=0.5, box_xyxy=[1.0, 2.0, 3.0, 4.0])
    if boxes:
        rows = [
            result(f"{n}.jpg", ["owl", "cat"], box=(str(n), [0.0, 0.0, 9.5, 9.0]), labels=[found]) for n in range(9)
        ]
    write_parquet(write_run(tmp_path / "journal", rows, None), tmp_path / "t.parquet")
    expected = []
    for row in as_read(rows):
        plain = row.to_dict()
        groups = plain.pop("group_confidence", None)  # a table keeps that of each candidate's group alone
        if groups:
            own = {each["group"]: groups[each["group"]] for each in plain["candidates"] if each.get("group") in groups}
            plain["group_confidence"] = own
        expected.append(plain)
    assert [row.to_dict() for row in open_stored(tmp_path / "t.parquet").rows()] == expected


def test_an_unfinished_run_gives_the_last_row_of_each_image(tmp_path):
    box = RowBox(id="1", xyxy=[0, 0, 1, 1])
    rows = [
        result("a", ["owl"]),
        result("a", ["owl"], box=(box.id, box.xyxy)),
        result("b", ["owl"]),
        result("a", ["cat"]),
    ]
    path = write_run(tmp_path / "r.jsonl", rows, tmp_path, state="running")
    with open(path, "ab") as stream:
        stream.write(b'{"path": "c", "sta')
    stored = open_stored(path)
    assert [(row.key, row.label) for row in stored.rows()] == [("a#1", "owl"), ("b", "owl"), ("a", "cat")]
    assert (stored.damaged, stored.is_finished) == (1, False)


def test_what_cannot_be_read_is_a_sentence(tmp_path):
    (tmp_path / "notes.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    write_csv(write_run(tmp_path / "journal", [result("a", ["owl"])], None), tmp_path / "t.csv")
    for name, words in {
        "notes.jsonl": "holds no results",
        "gone.jsonl": "there is no file",
        "broken.parquet": "no Parquet file",
        "t.csv": "only a part of the evidence",
        "a.xlsx": "names no format",
    }.items():
        with pytest.raises(ResultsUnreadable, match=words):
            list(open_stored(tmp_path / name).rows())
    with pytest.raises(ResultsUnreadable, match="is a folder"):
        open_stored(tmp_path.rename(tmp_path.with_suffix(".jsonl")))
