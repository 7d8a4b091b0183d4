"""What is written: folder, scripts, pictures, truth, comparison. The page itself is tested in `test_page.py`."""

import base64
import json
import os
import re
from dataclasses import replace

import pytest
from PIL import Image

from memory import Category
from memory.errors import WriteFailed
from recognizer.evaluation.labelled import match_labels, read_labelled
from recognizer.images import ImageLimits
from recognizer.report import write_report
from recognizer.report.columns import Columns
from recognizer.report.folder import MARKER, ReportRefused, new_folder
from recognizer.report.row_data import Status, details_of, margin_of, status_of
from recognizer.report.scripts import script_json, write_call
from recognizer.report.thumbs import PICTURE_SIDE, choose_rows, frame_of
from recognizer.results import ErrorRow, ResultRow
from recognizer.results.errors import ResultsUnreadable
from recognizer.results.row import KnownRow
from tests.memory.building import build
from tests.memory.fake_encoder import HashEncoder
from tests.recognizer.commands import call
from tests.recognizer.report.runs import draw_image, mixed_rows, result, write_run, write_shards

HOSTILE = "</script><script>alert(1)</script>\u2028<img src=x onerror=alert(1)>"


@pytest.fixture
def photos(tmp_path):
    """Four photographs in a folder, and one outside of it."""
    folder = tmp_path / "photos"
    for name in ("a", "b", "c"):
        draw_image(folder / f"{name}.jpg", (800, 600), square=(10, 10, 90, 90), colour=f"#0{ord(name[0]) % 10}4080")
    draw_image(folder / "sub" / "d.jpg", (60, 40))
    draw_image(tmp_path / "private.jpg", (60, 40), colour="green")
    return folder


def loaded(report, function="addRows"):
    """What the scripts of a report hand to the page, parsed: the arguments of each call, in order."""
    calls = []
    for path in sorted((report.index.parent / "rows").iterdir()):
        name, arguments = re.fullmatch(
            r"report\.(\w+)\((.*)\);\n", path.read_text(encoding="utf-8"), re.DOTALL
        ).groups()
        if name == function:
            calls.append(json.loads(f"[{arguments}]"))
    return calls


def columns(report):
    """All columns of a report, with the scripts of rows joined."""
    joined = {}
    for start, chunk in loaded(report):
        for name, values in chunk.items():
            column = joined.setdefault(name, [None] * report.rows)
            column[start : start + len(values)] = values
    return joined


def details(report):
    return [row for _, rows in loaded(report, "addDetails") for row in rows]


def summary(report):
    return loaded(report, "open")[0][0]


def pictures(report):
    return columns(report).get("picture", [None] * report.rows)


def test_rows_become_scripts_in_chunks_with_counts_beside_them(tmp_path, monkeypatch):
    for module in ("report", "columns"):
        monkeypatch.setattr(f"recognizer.report.{module}.ROWS_PER_SCRIPT", 200)
    monkeypatch.setattr("recognizer.report.report.ROWS_PER_DETAILS", 20)
    rows = mixed_rows(210)
    report = write_report(write_run(tmp_path / "r.jsonl", rows, tmp_path / "gone"), tmp_path / "report")
    found, names = columns(report), [label[0] for label in summary(report)["labels"]]
    assert [start for start, _ in loaded(report)] == [0, 200]
    assert [start for start, _ in loaded(report, "addDetails")] == list(range(0, 210, 20))
    assert found["path"] == [row.path for row in rows]
    assert [None if label < 0 else names[label] for label in found["label"]] == [row.label for row in rows]
    for margin, row in zip(found["margin"], rows, strict=True):
        assert margin == (None if margin_of(row) is None else pytest.approx(margin_of(row), abs=1e-4))
    assert found["status"] == [int(status_of(row)) for row in rows]
    for number, (name, _, count) in enumerate(summary(report)["labels"]):
        assert found["label"].count(number) == count, name
    assert {code: count for code, count, _ in summary(report)["codes"]} == {
        code: sum(isinstance(row, ErrorRow) and row.code == code for row in rows) for code in ("E_TRUNCATED", "E_EMPTY")
    }
    shown = details(report)
    assert len(shown) == len(rows)
    for row, data in zip(rows, shown, strict=True):
        if isinstance(row, ErrorRow):
            assert data["error"] == [row.code, row.reason]
        else:
            assert [each[0] for each in data["candidates"]] == [each.category for each in row.candidates]
            term, text, region, edges, *numbers = row.candidates[0].evidence[0]
            assert data["candidates"][0][4][0] == [term, text, region, list(edges), *numbers]


def test_a_row_has_the_status_that_it_says():
    row = result("a.jpg", ["owl", "cat"])
    order = {"model": "m", "order": [1, 0]}
    assert status_of(row) == 0
    assert status_of(replace(row, unknown=True)) == Status.UNKNOWN
    assert status_of(replace(row, label=None, status="below")) == Status.BELOW
    assert status_of(replace(row, source="rolled up", label_path="animal")) == Status.ROLLED_UP
    assert status_of(replace(row, rerank={**order, "status": "ok"})) == Status.RERANKED | Status.REORDERED
    assert status_of(replace(row, rerank={"status": "ok", "order": [0, 1]})) == Status.RERANKED
    assert status_of(replace(row, rerank={"status": "skipped: confident", "order": [0, 1]})) == 0
    assert status_of(replace(row, rerank={**order, "status": "timeout"})) == Status.RERANK_FAILED
    assert status_of(ErrorRow(path="a", code="E_EMPTY", reason="r")) == Status.FAILED


def test_names_are_never_keys_and_cannot_end_a_script(tmp_path):
    row = result("a.jpg", ["__proto__", HOSTILE], group_confidence={"__proto__": 0.5, HOSTILE: 0.4})
    assert details_of(row)["groups"] == [["__proto__", 0.5], [HOSTILE, 0.4]]
    text = script_json(details_of(row))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text)["candidates"][1][0] == HOSTILE
    write_call(tmp_path / "a.js", "f", "\ud800")
    assert (tmp_path / "a.js").read_bytes() == b'f("?");\n'


def test_a_title_cannot_break_out_of_the_page(tmp_path):
    report = write_report(write_run(tmp_path / "<script>alert(1)<!--.jsonl", [], tmp_path), tmp_path.parent / "r")
    page = report.index.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "unsafe" not in policy
    assert not re.search(r"https?:", page + policy)


def test_pictures_are_small_upright_and_without_metadata(tmp_path, photos):
    draw_image(photos / "turned.jpg", (600, 900), square=(0, 0, 299, 449), orientation=6)
    rows = [result("turned.jpg", ["owl"], size_wh=(600, 900)), result("sub/d.jpg", ["owl"], size_wh=(60, 40))]
    report = write_report(write_run(tmp_path / "r.jsonl", rows, photos), tmp_path / "report")
    (turned, *frame), (small, *_) = pictures(report)
    with Image.open(report.index.parent / "thumbs" / turned) as picture:
        assert picture.size == (PICTURE_SIDE * 600 // 900, PICTURE_SIDE)
        assert dict(picture.getexif()) == {}
        assert "exif" not in picture.info
        assert picture.getpixel((10, 10))[0] > 200  # the red square is at the top left of what a viewer shows
        assert picture.getpixel((300, 500))[0] < 60
    assert b"at home" not in (report.index.parent / "thumbs" / turned).read_bytes()
    assert frame == [0, 0, 600, 900]
    with Image.open(report.index.parent / "thumbs" / small) as picture:
        assert picture.size == (60, 40)


def test_a_row_of_a_box_shows_its_surroundings(tmp_path, photos):
    box = [10, 10, 90, 90]
    rows = [
        result("a.jpg", ["owl"], size_wh=(800, 600), box=("1", box)),
        result("a.jpg", ["owl"], size_wh=(800, 600), box=("2", None)),
    ]
    report = write_report(write_run(tmp_path / "r.jsonl", rows, photos), tmp_path / "report")
    (name, *frame), (_, *whole) = pictures(report)
    assert frame == list(frame_of(box, (800, 600))) == [0, 0, 130, 130]
    assert whole == [0, 0, 800, 600]
    assert columns(report)["box"] == [["1", box], ["2", None]]
    with Image.open(report.index.parent / "thumbs" / name) as picture:
        assert picture.size == (130, 130)
        assert picture.getpixel((50, 50))[0] > 200
        assert picture.getpixel((120, 120))[0] < 60


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 1, 1),
        (790, 590, 900, 700),
        (5, 5, 5, 5),
        (-1e308, -1e308, 1e308, 1e308),
        (900, 900, 950, 950),
        (90, 90, 10, 10),
    ],
)
def test_the_frame_of_any_box_is_a_part_of_the_image(box):
    x0, y0, x1, y1 = frame_of(box, (800, 600))
    assert 0 <= x0 < x1 <= 800
    assert 0 <= y0 < y1 <= 600


def test_files_outside_of_the_folder_are_not_opened(tmp_path, photos):
    (photos / "link.jpg").symlink_to(tmp_path / "private.jpg")
    (photos / "inside.jpg").symlink_to(photos / "a.jpg")
    paths = [
        "../private.jpg",
        str(tmp_path / "private.jpg"),
        "link.jpg",
        "inside.jpg",
        "a.jpg",
        str(photos / "b.jpg"),
        "a\0b",
        "sub/../../private.jpg",
    ]
    run = write_run(tmp_path / "r.jsonl", [result(path, ["owl"]) for path in paths], photos)
    report = write_report(run, tmp_path / "report")
    assert [path for path, picture in zip(paths, pictures(report), strict=True) if picture] == [
        "inside.jpg",
        "a.jpg",
        str(photos / "b.jpg"),
    ]
    assert report.pictures.outside == 5
    assert len(os.listdir(tmp_path / "report" / "thumbs")) == 2  # `inside.jpg` is a copy of `a.jpg`
    assert any("outside of the folder" in sentence for sentence in summary(report)["notes"])


def test_a_run_that_names_the_whole_disk_shows_no_pictures(tmp_path, photos):
    run = write_run(tmp_path / "r.jsonl", [result(str(photos / "a.jpg"), ["owl"])], "/")
    report = write_report(run, tmp_path / "report")
    assert pictures(report) == [None]
    assert any("--images" in sentence for sentence in summary(report)["notes"])
    assert pictures(write_report(run, tmp_path / "report", images=photos))[0]


def test_the_page_names_no_folder_of_this_machine(tmp_path, photos):
    run = write_run(tmp_path / "r.jsonl", [result("a.jpg", ["owl"])], photos, command=["recognizer", str(photos)])
    other = write_run(
        tmp_path / "other.jsonl", [result("a.jpg", ["cat"])], tmp_path, settings={"input_root": str(tmp_path)}
    )
    report = write_report(run, tmp_path / "report", against=other)
    for path in report.index.parent.rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path


def test_images_that_cannot_be_decoded_have_no_picture(tmp_path, photos):
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    os.mkfifo(photos / "pipe.jpg")
    rows = [result(name, ["owl"]) for name in ("bad.jpg", "gone.jpg", "a.jpg", "pipe.jpg", "sub")]
    run = write_run(tmp_path / "r.jsonl", rows, photos)
    report = write_report(run, tmp_path / "report")
    assert [picture is not None for picture in pictures(report)] == [False, False, True, False, False]
    assert report.pictures.unreadable == 4
    limited = write_report(run, tmp_path / "limited", limits=ImageLimits(max_pixels=1000))
    assert pictures(limited) == [None] * 5


def test_pictures_of_unchanged_images_are_taken_over(tmp_path, photos):
    run = write_run(tmp_path / "r.jsonl", [result(f"{name}.jpg", ["owl"]) for name in "ab"], photos)
    first = write_report(run, tmp_path / "report")
    files = {name: os.stat(first.index.parent / "thumbs" / name[0]).st_ino for name in map(tuple, pictures(first))}
    draw_image(photos / "b.jpg", (640, 480), colour="white")
    second = write_report(run, tmp_path / "report")
    kept, changed = pictures(second)
    assert os.stat(second.index.parent / "thumbs" / kept[0]).st_ino == files[tuple(kept)]
    assert changed[0] not in {name for name, *_ in files}


def test_the_least_sure_rows_have_pictures_where_there_are_too_many(tmp_path, photos):
    shares = {"a": 0.9, "b": 0.55, "c": 0.7}
    rows = [result(f"{name}.jpg", ["owl", "cat"], confidence=share) for name, share in shares.items()]
    run = write_run(tmp_path / "r.jsonl", [*rows, ErrorRow(path="e", code="E_EMPTY", reason="r")], photos)
    report = write_report(run, tmp_path / "report", most_pictures=2)
    assert [picture is not None for picture in pictures(report)] == [False, True, True, False]
    assert "2 pictures" in summary(report)["notes"][0]
    table = Columns()
    for row in rows:
        table.add(row)
    assert choose_rows(table, 9) == ([0, 1, 2], 0)
    assert choose_rows(table, 0) == ([], 3)


def test_truth_marks_what_is_right(tmp_path):
    climbed = {"label": "bird", "label_path": "animal > bird", "source": "rolled up"}
    owls = [("snowy owl", "animal > bird"), ("tabby cat", "animal > mammal")]
    rows = [
        result("a.jpg", owls),
        result("b.jpg", owls),
        result("c.jpg", owls, **climbed),
        result("d.jpg", owls[::-1], **climbed),
        result("e.jpg", owls),
        result("f.jpg", owls, label=None, status="below"),
    ]
    truth = tmp_path / "truth.csv"
    # another spelling of a category, a wrong one, two rolled up, one unknown to the run, and one without a row
    truth.write_text(
        "file,label\na.jpg,Snowy  Owl\nb.jpg,tabby cat\nc.jpg,snowy owl\nd.jpg,tabby cat\nf.jpg,ostrich\nz.jpg,x\n"
    )
    report = write_report(write_run(tmp_path / "r.jsonl", rows, None), tmp_path / "report", truth=truth)
    found, labels = columns(report), summary(report)["labels"]
    verdicts = [status & (Status.RIGHT | Status.WRONG) for status in found["status"]]
    assert verdicts == [Status.RIGHT, Status.WRONG, Status.RIGHT, Status.WRONG, 0, 0]
    assert [None if number < 0 else labels[number][0] for number in found["truth"]] == [
        "snowy owl",
        "tabby cat",
        "snowy owl",
        "tabby cat",
        None,
        "ostrich",
    ]
    assert summary(report)["truth"] == {"known": 5, "right": 2, "unmatched": 1, "leftOut": 0}
    assert "1 row whose true name no row mentions" in " ".join(report.sentences())


def test_true_names_that_the_memory_lacks_are_left_out_as_in_eval(tmp_path):
    memory = build([Category(name) for name in ("owl", "cat", "ostrich")], tmp_path / "m", HashEncoder(dim=16))
    owl = ["owl", "cat"]
    rows = [result(f"{name}/1.jpg", owl) for name in ("owl", "cat", "ostrich", "zebra")]
    rows.append(result("zebra/2.jpg", owl, label=None, status="below"))
    for row in rows:
        draw_image(tmp_path / "set" / row.path)
    info = {"memory": {"path": str(tmp_path / "m"), "digest": memory.digest, "categories": 3}}
    run = write_run(tmp_path / "r.jsonl", rows, tmp_path / "set", **info)
    report = write_report(run, tmp_path / "report", truth=tmp_path / "set")
    evaluated = match_labels(read_labelled(tmp_path / "set"), memory.bare_categories())
    assert (report.truth.known, report.truth.left_out) == (len(evaluated.items), evaluated.unmatched)
    assert (report.truth.known, report.truth.right, report.truth.left_out) == (3, 1, {"zebra": 2})
    verdict = Status.RIGHT | Status.WRONG | Status.NOT_IN_MEMORY
    assert [status & verdict for status in columns(report)["status"]] == [
        Status.RIGHT,
        Status.WRONG,
        Status.WRONG,  # the memory has ostriches, which no row mentions
        Status.NOT_IN_MEMORY,
        Status.NOT_IN_MEMORY,
    ]
    assert summary(report)["truth"] == {"known": 3, "right": 1, "unmatched": 0, "leftOut": 2}
    assert list(report.sentences()) == ["2 rows left out: true name not in the memory ('zebra' 2)."]

    memory.remove(["ostrich"])  # it is another memory now, so nothing says what the run compared with
    report = write_report(run, tmp_path / "report", truth=tmp_path / "set")
    assert (report.truth.known, report.truth.right, report.truth.left_out) == (5, 1, {})
    assert "Counted as wrong: 3 rows whose true name" in " ".join(report.sentences())


def test_a_change_of_status_alone_is_no_change_of_the_label(tmp_path):
    """Nor are groups that only one of the memories has."""
    owls = [("owl", "bird"), ("cat", "")]
    now = [
        result("label", owls),
        result("status", owls, unknown=True),
        result("group", owls),
        result("moved", owls),
        result("both", owls, unknown=True),
    ]
    before = [
        result("label", owls[::-1]),
        result("status", owls),
        result("group", ["owl"]),
        result("moved", [("owl", "toys")]),
        result("both", owls[::-1]),
    ]
    run, other = (write_run(tmp_path / f"{n}.jsonl", rows, None) for n, rows in enumerate((now, before)))
    report = write_report(run, tmp_path / "report", against=other)
    assert report.compared == (5, 3, 1, 0, 0)
    marks = [status & (Status.CHANGED | Status.STATUS_CHANGED) for status in columns(report)["status"]]
    assert marks == [Status.CHANGED, Status.STATUS_CHANGED, 0, Status.CHANGED, Status.CHANGED]
    _, _, said = call("report", run, "--output", tmp_path / "report", "--against", other)
    assert "3 of 5 rows in both runs have another label; 1 with the same label and another status; only" in said


def test_truth_of_a_table_elsewhere_is_found_by_the_file(tmp_path):
    (tmp_path / "truth.csv").write_text("path,label\nphotos/a.jpg,owl\n")
    run = write_run(tmp_path / "r.jsonl", [result("a.jpg", ["owl"])], tmp_path / "photos")
    report = write_report(run, tmp_path / "report", images=None, truth=tmp_path / "truth.csv")
    assert report.truth.right == 0  # the folder of the run is gone, so nothing says where its files are
    (tmp_path / "photos").mkdir()
    assert write_report(run, tmp_path / "report", truth=tmp_path / "truth.csv").truth.right == 1


def test_two_runs_are_compared_row_by_row(tmp_path):
    one = [result(name, ["owl", "cat"]) for name in ("same", "changed", "added", "failed", "below")]
    other = [
        one[0],
        result("changed", ["cat", "owl"], confidence=0.5),
        ErrorRow(path="failed", code="E_EMPTY", reason="no bytes"),
        replace(one[4], label=None, status="below"),
        result("dropped", ["owl"]),
    ]
    run = write_run(tmp_path / "r.jsonl", one, None)
    write_run(run, one, tmp_path / "x")
    before = write_run(tmp_path / "before.jsonl", other, tmp_path / "y", settings={"score": {"image_name": 0.3}})
    report = write_report(run, tmp_path / "report", against=before)
    marks = [status & (Status.CHANGED | Status.ADDED) for status in columns(report)["status"]]
    assert marks == [0, Status.CHANGED, Status.ADDED, Status.CHANGED, Status.CHANGED]
    assert report.compared == (4, 3, 0, 1, 1)
    there = [data.get("other") for data in details(report)]
    assert there[1]["label"] == "cat"
    assert there[2] is None
    assert there[3]["error"] == ["E_EMPTY", "no bytes"]
    name, _, score, _, sums = there[1]["candidates"][0]
    assert name == "cat"
    assert sum(value for _, value in sums) == pytest.approx(score, abs=1e-5)
    assert summary(report)["other"] == {
        "name": "before.jsonl",
        "onlyThere": 1,
        "differences": [["score.image_name", "0.2", "0.3"]],
    }


def test_what_cannot_be_compared_is_said(tmp_path):
    run = write_run(tmp_path / "r.jsonl", [result(name, ["owl"]) for name in ("a.jpg", "b.jpg")], None)
    other = write_run(tmp_path / "o.jsonl", [result(f"/photos/{name}.jpg", ["owl"]) for name in "abc"], None)
    truth = tmp_path / "truth.csv"
    truth.write_text("path,label\n/photos/a.jpg,owl\n/photos/c.jpg,owl\n")
    report = write_report(run, tmp_path / "report", against=other, truth=truth)
    assert report.compared == (0, 0, 0, 2, 3)
    assert summary(report)["notes"][1:] == [*report.sentences()][1:]
    assert [sentence.partition(".")[0] for sentence in report.sentences()][1:] == [
        "No row is in both runs, so nothing is compared",
        "No row has a true label",
        "2 true labels without a row: no image of these results has its path",
    ]
    _, _, said = call("report", run, "--output", tmp_path / "report", "--truth", truth, "--against", other)
    assert "No row is in both runs" in said
    assert "changed" not in said
    truth.write_text("path,label\na.jpg,owl\n")
    report = write_report(run, tmp_path / "report", truth=truth)
    assert [*report.sentences()][1:] == ["1 of 2 rows have no true label."]
    truth.write_text("path,label\na.jpg,owl\nb.jpg,owl\n")
    assert len([*write_report(run, tmp_path / "report", truth=truth, against=run).sentences()]) == 1


def test_a_folder_of_a_run_on_ray_is_the_report_of_its_file(tmp_path):
    known = KnownRow(score=0.4, threshold=0.5, category="owl", negative="a blurred photo")
    rows = [result("a.jpg", ["owl", "cat"], known=known, group_confidence={"animal": 0.9, "bird": 0.5})]
    rows += sorted(mixed_rows(120), key=lambda row: row.path)
    other = write_run(tmp_path / "other.jsonl", mixed_rows(120, seed=1), tmp_path / "gone")
    run = write_run(tmp_path / "r.jsonl", rows, tmp_path / "gone")
    shards, others = (write_shards(path.with_suffix(""), path) for path in (run, other))
    one = write_report(run, tmp_path / "one", against=other)
    two = write_report(shards, tmp_path / "two", against=others)
    assert columns(one) == columns(two)
    assert details(one) == details(two)
    differing = {name for name, value in summary(one).items() if summary(two)[name] != value} - {"made"}
    assert differing == {"title", "other"}
    assert {**summary(one)["other"], "name": "other"} == {
        **summary(two)["other"],
        "differences": summary(one)["other"]["differences"],
    }


def test_rows_that_make_no_sense_cost_themselves_alone(tmp_path):
    run = write_run(tmp_path / "r.jsonl", [result("a.jpg", ["owl"])], None)
    good = json.loads(run.read_text())
    bad = [
        {**good, "label": {"a": 1}},
        {**good, "confidence": float("nan")},
        {**good, "candidates": 3},
        {**good, "path": None},
        [],
        7,
        {**good, "box": {"id": 1, "xyxy": [1]}},
    ]
    run.write_text("\n".join(map(json.dumps, [*bad, good])) + '\n{"path": "torn')
    report = write_report(run, tmp_path / "report")
    assert columns(report)["path"] == ["a.jpg"]
    assert report.damaged == 8
    assert len(details(report)) == 1
    assert "8 lines" in "".join(summary(report)["notes"])


def test_an_empty_run_and_an_unfinished_one_are_reports(tmp_path):
    empty = write_report(write_run(tmp_path / "r.jsonl", [], tmp_path / "x"), tmp_path / "report")
    assert (empty.rows, loaded(empty), details(empty)) == (0, [], [])
    assert "rows-000.js" not in empty.index.read_text()
    rows = [result("a.jpg", ["owl"]), result("b.jpg", ["owl"]), result("a.jpg", ["cat"])]
    run = write_run(tmp_path / "half.jsonl", rows, tmp_path / "x", state="running")
    report = write_report(run, tmp_path / "report")
    assert columns(report)["path"] == ["b.jpg", "a.jpg"]  # the later row of an image is the one that counts
    assert "not finished" in summary(report)["notes"][0]


def test_a_folder_that_is_no_report_is_left_alone(tmp_path):
    run = write_run(tmp_path / "r.jsonl", [result("a.jpg", ["owl"])], None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("text")
    (tmp_path / "file").write_text("text")
    for taken in ("mine", "file", "r.jsonl"):
        with pytest.raises(ReportRefused, match="choose another --output"):
            write_report(run, tmp_path / taken)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "text"
    (tmp_path / "empty").mkdir()
    report = write_report(run, tmp_path / "empty")
    (tmp_path / "empty" / "stale.js").write_text("")
    assert (tmp_path / "empty" / MARKER).exists()
    write_report(run, tmp_path / "empty")
    assert report.index.exists()
    assert not (tmp_path / "empty" / "stale.js").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "mine", "r.jsonl"]


def test_an_earlier_report_survives_an_error(tmp_path):
    run = write_run(tmp_path / "r.jsonl", [result("a.jpg", ["owl"])], None)
    report = write_report(run, tmp_path / "report")
    with pytest.raises(WriteFailed), new_folder(tmp_path / "report") as draft:
        draft.write_text("")
    assert report.index.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.jsonl", "report"]


def test_a_report_among_the_images_is_refused(tmp_path, photos):
    run = write_run(tmp_path / "r.jsonl", [result("a.jpg", ["owl"])], photos)
    with pytest.raises(ReportRefused, match="take its pictures for images"):
        write_report(run, photos / "report")
    with pytest.raises(ReportRefused, match="no folder"):
        write_report(run, tmp_path / "report", images=tmp_path / "nowhere")
    with pytest.raises(ResultsUnreadable, match="there is no file"):
        write_report(tmp_path / "none.jsonl", tmp_path / "report")


def test_the_command_says_what_it_wrote(tmp_path, photos):
    key = base64.b64encode(b"a.jpg").decode()
    row = result("a.jpg", ["owl"])
    assert isinstance(row, ResultRow)
    run = write_run(tmp_path / "r.jsonl", [replace(row, path_b64=key)], photos)
    (tmp_path / "truth.csv").write_text("path,label\na.jpg,owl\n")
    code, out, said = call(
        "report", run, "--output", tmp_path / "report", "--truth", tmp_path / "truth.csv", "--against", run
    )
    assert code == 0
    assert out.strip() == str((tmp_path / "report" / "index.html").resolve())
    assert "right: 1 of 1 compared row (100.0%)" in said
    assert "0 of 1 row in both runs have another label; only here: 0, only there: 0" in said
    assert list((tmp_path / "report" / "thumbs").iterdir())
