import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recognizer.results import CandidateRow, ErrorRow, EvidenceRow, ResultRow, encode_row


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
