import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from recognizer.results import CandidateRow, encode_row
from recognizer.results.errors import ResultsUnreadable
from recognizer.results.reading import open_stored
from recognizer.results.row import FoundLabel, KnownRow, RowBox, parse_row
from recognizer.results.tables import arrow_table, write_csv, write_parquet
from tests.recognizer.report.runs import mixed_rows, result, write_run, write_shards


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
    else:
        rows += rich_rows()
    write_parquet(write_run(tmp_path / "journal", rows, None), tmp_path / "t.parquet")
    assert [row.to_dict() for row in open_stored(tmp_path / "t.parquet").rows()] == [
        row.to_dict() for row in as_read(rows)
    ]


def rich_rows():
    """Rows with all that a row can have."""
    known = KnownRow(score=0.4, threshold=0.5, category="owl", negative="a blurred photo")
    ranked = CandidateRow(category="owl", group="bird > raptor", ranks=("class", None), score=0.5, confidence=0.5)
    return [
        result("z/1.jpg", ["owl"], known=known, group_confidence={}, labels=[]),
        result(
            "z/2.jpg", ["owl"], known=replace(known, threshold=None), candidates=[ranked, replace(ranked, ranks=())]
        ),
        result("z/3.jpg", ["owl"], label="bird", label_rank="class", label_level=1, label_path="bird", candidates=[]),
    ]


def test_parquet_of_an_earlier_release_has_the_groups_of_its_candidates(tmp_path):
    row = result("a", [("owl", "bird"), ("cat", "pet")], group_confidence={"bird": 0.6, "animal": 0.9})
    table = arrow_table([json.loads(encode_row(row))]).drop_columns(["known", "ranks", "groups"])
    pq.write_table(table, tmp_path / "t.parquet")
    (read,) = open_stored(tmp_path / "t.parquet").rows()
    assert read == replace(as_read([row])[0], group_confidence={"bird": 0.6})


@pytest.mark.parametrize("state", ["finished", "running"])
def test_a_folder_gives_the_rows_of_the_file_in_the_order_of_their_paths(tmp_path, monkeypatch, state):
    monkeypatch.setattr("recognizer.results.reading.LINES_PER_BATCH", 7)
    rows = sorted([*mixed_rows(120), *rich_rows(), result("ü.jpg", ["owl"])], key=lambda row: row.path)
    run = write_run(tmp_path / "r.jsonl", rows, tmp_path, state=state)
    folder = write_shards(tmp_path / "day.1", run)
    (folder / ".rows-000009.parquet.part").write_bytes(b"half a file of a killed process")
    (folder / "rows-000001.parquet.damaged").write_bytes(b"moved aside")
    stored = open_stored(folder)
    assert list(stored.rows()) == list(open_stored(run).rows()) == as_read(rows)
    assert (stored.is_finished, stored.info.input_root) == (state == "finished", str(tmp_path))


def test_a_file_of_a_folder_is_open_while_its_paths_last(tmp_path, monkeypatch):
    """Files of neighbouring images are read one after the other."""
    folder, read = tmp_path / "rows", []
    folder.mkdir()
    for number, names in enumerate(["ef", "ac", "bd"]):
        content = [json.loads(encode_row(result(name, ["owl"]))) for name in names]
        pq.write_table(arrow_table(content), folder / f"rows-{number:06}.parquet")
    open_file = pq.ParquetFile

    class Noted(open_file):
        def read(self, columns=None):
            if columns is None:
                read.append("read")
            return super().read(columns)

    monkeypatch.setattr(pq, "ParquetFile", Noted)
    read.extend(row.path for row in open_stored(folder).rows())
    # A row is complete where the next one begins.
    assert read == ["read", "read", "a", "b", "c", "read", "d", "e", "f"]


def test_results_that_must_be_whole_are_read_from_any_format_or_refused(tmp_path):
    rows = sorted(mixed_rows(20), key=lambda row: row.path)
    run = write_run(tmp_path / "r.jsonl", rows, tmp_path)
    folder = write_shards(tmp_path / "rows", run)
    found, info = open_stored(folder).finished()
    assert (found, info.count, info.output) == (as_read(rows), 20, "rows")
    (folder / "rows-000002.parquet").unlink()
    with pytest.raises(ResultsUnreadable, match="rows has 14 rows for the 20 images of its run"):
        open_stored(folder).finished()
    (folder / "_run.json").unlink()
    with pytest.raises(ResultsUnreadable, match=r"no run\.json says what made .*put the _run\.json of its run there"):
        open_stored(folder).finished()
    unfinished = write_run(tmp_path / "u.jsonl", rows, tmp_path, state="running")
    with pytest.raises(ResultsUnreadable, match=r"the run that writes .*u\.jsonl is not finished"):
        open_stored(unfinished).finished()


def test_an_output_among_the_results_would_damage_them(tmp_path):
    run = write_run(tmp_path / "t.csv.journal.jsonl", mixed_rows(3), None)
    folder = write_shards(tmp_path / "rows", run)
    table, shards = open_stored(tmp_path / "t.csv"), open_stored(folder)
    assert [table.would_be_damaged_by(path) for path in (tmp_path / "t.csv", run, tmp_path / "u.csv")] == [
        True,
        True,
        False,
    ]
    assert [shards.would_be_damaged_by(path) for path in (folder, folder / "new.csv", tmp_path / "rows.csv")] == [
        True,
        True,
        False,
    ]


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
    with pytest.raises(ResultsUnreadable, match="holds no results of a run on Ray"):
        open_stored(tmp_path)
    (tmp_path / "rows-000000.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ResultsUnreadable, match=r"rows-000000\.parquet is damaged: .*; repeat its run"):
        list(open_stored(tmp_path).rows())
