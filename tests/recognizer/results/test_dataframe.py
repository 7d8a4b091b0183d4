import pytest

from recognizer.results import CandidateRow, ErrorRow, ResultRow, ResultsError, to_dataframe

ROWS = [
    ResultRow(
        path="a.jpg",
        label="cat",
        confidence=0.75,
        calibrated=False,
        unknown=None,
        candidates=[
            CandidateRow(category="cat", score=0.5, confidence=0.75),
            CandidateRow(category="dog", score=0.25, confidence=0.25),
        ],
    ),
    ErrorRow(path="b.jpg", code="E_EMPTY", reason="the file has no bytes"),
]


def test_a_line_per_image_and_rank():
    pytest.importorskip("pandas")
    table = to_dataframe(iter(ROWS))
    assert list(table["path"]) == ["a.jpg", "a.jpg", "b.jpg"]
    assert list(table["category"][:2]) == ["cat", "dog"]
    assert list(table["confidence"][:2]) == [0.75, 0.25]
    assert table["error_code"][2] == "E_EMPTY"
    assert list(to_dataframe([]).columns) == list(table.columns)


def test_without_pandas_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("recognizer.results.dataframe.find_spec", lambda name: None)
    with pytest.raises(ResultsError, match="pip install pandas"):
        to_dataframe(ROWS)
