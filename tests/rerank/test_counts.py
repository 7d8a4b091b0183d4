import time

import pytest

from rerank.counts import RerankCounts
from rerank.mllm import Usage


def test_everything_added_is_reported():
    counts = RerankCounts()
    for failure in (None, "timeout", "timeout", "refused"):
        counts.add_asked(failure)
    counts.add_cached()
    counts.add_skipped(2)
    counts.add_request(Usage(10, 3))
    counts.add_request(None)
    counts.add_mended()
    assert counts.to_dict() == {
        "asked": 4,
        "cached": 1,
        "skipped": 2,
        "requests": 2,
        "prompt_tokens": 10,
        "generated_tokens": 3,
        "mended": 1,
        "failed": {"refused": 1, "timeout": 2},
        "seconds": 0.0,
    }
    assert counts.summary() == (
        "4 images asked, 1 cached, 2 skipped, 3 failed (1 refused, 2 timeout), 1 lists mended; "
        "2 requests, 0.0 s, 10 prompt and 3 generated tokens"
    )


@pytest.mark.parametrize(
    ("failures", "cached", "expected"),
    [(["timeout", "refused"], 0, True), (["timeout", None], 0, False), (["timeout"], 1, False), ([], 0, False)],
)
def test_none_is_answered_where_all_that_were_asked_failed(failures, cached, expected):
    counts = RerankCounts()
    for failure in failures:
        counts.add_asked(failure)
    for _ in range(cached):
        counts.add_cached()
    counts.add_skipped(3)
    assert counts.none_answered is expected


def test_time_that_two_threads_wait_at_once_counts_once(monkeypatch):
    now = iter([1.0, 4.0, 10.0, 11.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    counts = RerankCounts()
    with counts.busy(), counts.busy():
        pass
    with counts.busy():
        pass
    assert counts.seconds == 4.0
