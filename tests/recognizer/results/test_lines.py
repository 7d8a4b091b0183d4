import json
from dataclasses import replace

from recognizer.results import ResultRow
from recognizer.results.lines import encode_row


def test_a_line_is_the_text_of_the_plain_values(make_row):
    bare = ResultRow(path="a", label=None, confidence=None, calibrated=False, unknown=None, candidates=())
    for row in (make_row(4), replace(make_row(4), rerank={"status": "ok", "candidates": []}), bare):
        assert encode_row(row) == json.dumps(row.to_dict(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
