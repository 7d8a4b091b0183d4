import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recognizer.hierarchy.rule import LabelRule
from recognizer.results import CandidateRow, ErrorRow, EvidenceRow, FoundLabel, ResultRow, encode_row
from recognizer.results.row import RowBox, parse_row


def evidence(contribution):
    return EvidenceRow(
        term="image_name", description="", region=None, box_xyxy=None, value=1, weight=1, contribution=contribution
    )


def result(path="a.jpg", **changes):
    fields = {"label": "cat", "confidence": 0.5, "calibrated": True, "unknown": False, "candidates": ()}
    return ResultRow(path=path, **(fields | changes))


def test_a_row_has_exactly_these_fields_in_this_order(make_row):
    row = json.loads(encode_row(make_row(4)))
    assert list(row) == ["path", "status", "label", "confidence", "calibrated", "unknown", "candidates", "rerank"]
    assert [list(each) for each in row["candidates"]] == [
        ["category", "group", "score", "confidence", "evidence"],
        ["category", "score", "confidence", "evidence"],
    ]
    assert row["candidates"][0]["evidence"][1] == {
        "term": "region_description",
        "description": "=a,b\n\u2028\"c'",
        "region": 1,
        "box_xyxy": [1.0, 2.12, 30.0, 40.0],
        "value": 0.25,
        "weight": 0.4,
        "contribution": 0.1,
    }
    assert (row["status"], row["unknown"], row["rerank"]) == ("ok", None, None)
    failed = ErrorRow(path="b\\xff", path_b64="Yv8=", code="E_EMPTY", reason="no bytes")
    assert encode_row(failed) == (
        b'{"path":"b\\\\xff","path_b64":"Yv8=","status":"error","error":{"code":"E_EMPTY","reason":"no bytes"}}\n'
    )


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_one_line_of_utf8(text):
    line = encode_row(result(path=text, label=text))
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    shown = text.encode("utf-8", "replace").decode()
    assert (json.loads(line)["path"], json.loads(line)["label"]) == (shown, shown)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=1000))
@example([0.123456784999] * 1000)  # every piece is rounded the same way
def test_contributions_add_up_after_rounding(numbers):
    parts = [evidence(np.float32(number)) for number in numbers]
    score = math.fsum(map(float, numbers))
    row = json.loads(
        encode_row(result(candidates=[CandidateRow(category="c", score=score, confidence=1, evidence=parts)]))
    )
    written = row["candidates"][0]
    assert abs(sum(piece["contribution"] for piece in written["evidence"]) - written["score"]) < 1e-5


def test_numbers_are_written_by_rule():
    same = [result(confidence=np.float64(0.12345678)), result(confidence=0.123457)]
    assert encode_row(same[0]) == encode_row(same[1])
    assert json.loads(encode_row(result(confidence=1.23456789e-9)))["confidence"] == 1.23457e-9
    negative = CandidateRow(category="c", score=-1e-12, confidence=0, evidence=[])
    assert b'"score":0.0,' in encode_row(result(candidates=[negative]))
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="must be finite"):
            encode_row(result(confidence=bad))


def test_what_a_run_adds_to_a_row_stands_at_its_place_and_is_read_again():
    label = FoundLabel(category="cat", presence=0.8, box_xyxy=[1.0, 2.0, 3.0, 4.0])
    other = FoundLabel(category="crane", group="birds", presence=0.6)
    row = result(
        label=None, status="below", width=640, height=480, group_confidence={"birds": 0.75}, labels=[label, other]
    )
    content = json.loads(encode_row(row))
    assert list(content) == [
        *("path", "status", "width", "height", "label", "confidence", "calibrated", "unknown"),
        *("group_confidence", "labels", "candidates", "rerank"),
    ]
    assert content["labels"][0] == {"category": "cat", "presence": 0.8, "box_xyxy": [1, 2, 3, 4]}
    assert content["labels"][1] == {"category": "crane", "group": "birds", "presence": 0.6, "box_xyxy": None}
    again = parse_row(content)
    assert encode_row(again) == encode_row(row)
    assert (again.status, again.width, again.height, again.labels) == ("below", 640, 480, [label, other])


def test_a_row_of_a_box_is_known_by_image_and_box_and_is_read_again():
    box = RowBox(id="ab", xyxy=(1, 2.006, 3, 4), category="cat", confidence=0.25)
    for row in (result(box=box), ErrorRow(path="a.jpg", box=replace(box, xyxy=None), code="E_BOX", reason="r")):
        content = json.loads(encode_row(row))
        assert list(content)[:3] == ["path", "box", "status"]
        again = parse_row(content)
        assert encode_row(again) == encode_row(row)
        assert again.key == row.key == f"{row.path}#ab"
    assert json.loads(encode_row(result(box=box)))["box"]["xyxy"] == [1, 2.01, 3, 4]
    assert (result().key, "box" in json.loads(encode_row(result()))) == (result().path, False)


def test_rows_of_earlier_releases_are_read(make_row):
    content = json.loads(encode_row(make_row(4)))
    assert "width" not in content
    row = parse_row(content)
    assert (row.status, row.width, row.group_confidence, row.labels) == ("ok", None, None, None)
    assert encode_row(row) == encode_row(make_row(4))


@pytest.mark.parametrize(("least", "status"), [(None, "ok"), (0.4, "ok"), (0.41, "below")])
def test_a_label_needs_the_least_confidence(least, status):
    best = CandidateRow(category="cat", score=0.3, confidence=0.4)
    row = result(label="dog", confidence=0.1, candidates=[best]).with_label(LabelRule(least))
    assert (row.status, row.label, row.confidence) == (status, "cat" if status == "ok" else None, 0.4)
    assert result(candidates=[]).with_label(LabelRule(least)).label is None
