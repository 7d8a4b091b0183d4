import csv
import io
import json
import re
import tracemalloc
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recognizer.results import FoundLabel, encode_row
from recognizer.results.row import ErrorRow
from recognizer.results.tables import BOX_COLUMNS, CSV_COLUMNS, CsvLines, neutralise, write_csv, write_parquet


def journal_of(path, rows):
    path.write_bytes(b"".join(map(encode_row, rows)))
    return path


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_csv_has_a_line_for_each_image_and_rank(tmp_path, make_row):
    rows = [make_row(0), make_row(1, bad={1}), make_row(2, key="-2.jpg")]
    write_csv(journal_of(tmp_path / "j", rows), tmp_path / "t.csv")
    table = read_csv(tmp_path / "t.csv")
    assert tuple(table[0]) == CSV_COLUMNS
    assert [(line["path"], line["rank"]) for line in table] == [
        ("000.jpg", "1"),
        ("000.jpg", "2"),
        ("001.jpg", ""),
        ("'-2.jpg", "1"),
        ("'-2.jpg", "2"),
    ]
    first, second, failed = table[:3]
    assert (first["category"], first["group"], first["score"], first["calibrated"]) == ("ca\nt", "pets", "0.3", "false")
    assert (first["term"], first["contribution"], first["region"]) == ("image_name", "0.2", "0")
    assert first["region_description"] == "'=a,b\n\u2028\"c'"
    assert [first[name] for name in ("x_min", "y_min", "x_max", "y_max")] == ["1.0", "2.12", "30.0", "40.0"]
    assert (second["category"], second["term"], second["x_min"], second["group"]) == ("'=cmd()", "", "", "")
    assert (failed["status"], failed["error_code"], failed["category"]) == ("error", "E_TRUNCATED", "")


def test_tables_have_the_sum_of_each_candidates_group_the_labels_and_the_size(tmp_path, make_row):
    labels = [FoundLabel(category="=cat", presence=0.8, box_xyxy=[1, 2, 3, 4]), FoundLabel(category="b", presence=0.6)]
    row = replace(make_row(0), width=640, height=480, group_confidence={"pets": 0.75}, labels=labels, status="below")
    journal = journal_of(tmp_path / "j", [row, make_row(1)])
    write_csv(journal, tmp_path / "t.csv")
    first, second, plain, _ = read_csv(tmp_path / "t.csv")
    assert (first["group_confidence"], first["labels"], first["status"]) == ("0.75", '["=cat", "b"]', "below")
    assert (second["group"], second["group_confidence"], second["width"], second["height"]) == ("", "", "640", "480")
    assert (plain["group"], plain["group_confidence"], plain["labels"], plain["width"]) == ("pets", "", "", "")
    write_parquet(journal, tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert [line["group_confidence"] for line in table] == [0.75, None, None, None]
    assert table[0]["labels"][0] == {"category": "=cat", "group": None, "presence": 0.8, "box_xyxy": [1, 2, 3, 4]}
    assert (table[0]["width"], table[0]["height"], table[2]["labels"], table[2]["width"]) == (640, 480, None, None)


def test_tables_have_the_label_with_its_place_in_the_tree(tmp_path, make_row):
    rolled_up = replace(
        make_row(0), label="=bird", label_level=2, label_path="animal > =bird", source="rolled up", confidence=0.75
    )
    journal = journal_of(tmp_path / "j", [rolled_up, make_row(1), make_row(2, bad={2})])
    write_csv(journal, tmp_path / "t.csv")
    fields = ("label", "label_level", "label_path", "source", "label_confidence")
    lines = [[line[field] for field in fields] for line in read_csv(tmp_path / "t.csv")]
    assert lines[:2] == [["'=bird", "2", "animal > =bird", "rolled up", "0.75"]] * 2
    assert lines[2:] == [[make_row(1).label, "", "", "", str(make_row(1).confidence)]] * 2 + [[""] * 5]
    write_parquet(journal, tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert [table[0][field] for field in fields] == ["=bird", 2, "animal > =bird", "rolled up", 0.75]
    assert [table[4][field] for field in fields] == [None] * 5


FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"


def cells_in(line_of_csv, separator):
    """What a spreadsheet with this list separator may take for cells; quotes count nowhere, the worst case."""
    lines = line_of_csv.replace("\r", "\n").split("\n")
    return [cell.strip(' "\0') for line in lines for cell in line.split(separator)]


@given(st.text(st.one_of(st.sampled_from(FORMULA + ";\t\r\n\0 \"',a"), st.characters(exclude_categories=["Cs"]))))
@example("\0=1")
@example("\r=1")
@example("\n@x")
@example("a;=1+1")
@example('a; "=1+1"')
@example("a;\n\uff1d1+1")
@example("\uff20SUM(1)")
def test_no_cell_begins_like_a_formula_and_the_text_survives(text):
    stream = io.StringIO(newline="")
    row = ErrorRow(path="x", code="E", reason=text).to_dict()
    CsvLines(stream).write([row])
    written = stream.getvalue()
    cell = next(csv.DictReader(io.StringIO(written, newline="")))["error_reason"]
    assert cell == neutralise(text)
    assert not cell.startswith((*FORMULA, "\t", "\r", "\n", "\0"))
    for separator in ";\t":
        assert not [found for found in cells_in(written, separator) if found.startswith(tuple(FORMULA))]
    assert cell.replace("'", "") == text.replace("'", "")
    if not any(part.lstrip(' "\0').startswith(tuple(FORMULA)) for part in re.split(r"[;\t\r\n]", text)):
        assert cell in {text, "'" + text}


def test_a_long_text_of_separators_and_spaces_is_neutralised_at_once():
    text = (";" * 1000 + " " * 1000) * 1000
    assert neutralise(text) == text  # quadratic, it would take minutes


def test_negative_numbers_stay_numbers(tmp_path, make_row):
    row = make_row(-3).to_dict()
    stream = io.StringIO(newline="")
    CsvLines(stream).write([row])
    stream.seek(0)
    assert [line["score"] for line in csv.DictReader(stream)] == ["0.3", "-2.9"]


def test_parquet_holds_all_evidence(tmp_path, make_row):
    rows = [make_row(number, bad={1}) for number in range(3)]
    journal = journal_of(tmp_path / "j", rows)
    write_parquet(journal, tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert [(line["path"], line["rank"]) for line in table][:3] == [("000.jpg", 1), ("000.jpg", 2), ("001.jpg", None)]
    written = json.loads(encode_row(rows[0]))["candidates"][0]
    assert table[0]["evidence"] == written["evidence"]
    assert (table[0]["score"], table[0]["category"], table[0]["unknown"]) == (0.3, "ca\nt", None)
    assert (table[2]["error_code"], table[2]["evidence"]) == ("E_TRUNCATED", [])
    before = (tmp_path / "t.parquet").read_bytes()
    write_parquet(journal, tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").read_bytes() == before


def test_conversion_is_flat_in_memory(tmp_path, make_row):
    line = encode_row(make_row(0))
    journal = tmp_path / "j"
    journal.write_bytes(line * 2_500)
    for convert, output in ((write_csv, tmp_path / "t.csv"), (write_parquet, tmp_path / "t.parquet")):
        tracemalloc.start()
        convert(journal, output)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10 * 2**20, convert.__name__  # a row group takes 7 MiB, all rows at once would take 16
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == 3


@pytest.fixture
def boxed_journal(tmp_path):
    box = {"id": "ab", "xyxy": [1.0, 2.0, 3.0, 4.0], "category": "=cat", "confidence": 0.5}
    rows = [
        {"path": "a.jpg", "status": "empty", "candidates": [], "rerank": None},
        {"path": "b.jpg", "box": box, "status": "ok", "candidates": [], "rerank": None},
        {"path": "c.jpg", "box": box | {"xyxy": None}, "status": "error", "error": {"code": "E_BOX", "reason": "r"}},
    ]
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_table_of_boxes_has_their_columns_and_one_of_images_has_not(boxed_journal, tmp_path):
    write_csv(boxed_journal, tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as stream:
        header, empty, good, bad = csv.reader(stream)
    assert header == [*CSV_COLUMNS, *BOX_COLUMNS]
    places = slice(len(CSV_COLUMNS), None)
    assert empty[places] == [""] * 7
    assert good[places] == ["ab", "1.0", "2.0", "3.0", "4.0", "'=cat", "0.5"]
    assert bad[places] == ["ab", "", "", "", "", "'=cat", "0.5"]
    write_parquet(boxed_journal, tmp_path / "r.parquet")
    table = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row["box"] and row["box"]["xyxy"] for row in table] == [None, [1, 2, 3, 4], None]
    (tmp_path / "none.jsonl").touch()
    write_csv(tmp_path / "none.jsonl", tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text().strip().split(",") == list(CSV_COLUMNS)
