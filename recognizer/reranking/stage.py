"""Reranking in the background: batches go to the MLLM while later ones are encoded, and come back in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from recognizer.images import ImageLimits
from recognizer.reranking.questions import RankedImage, rerank_rows
from recognizer.results import BatchTiming, ImageStamp, Row
from recognizer.settings import RerankSettings, ScoreSettings

if TYPE_CHECKING:
    from rerank.reranker import MllmReranker

# Two batches at a time, so that the MLLM has work while one of them waits for its last answer.
THREADS = 2
# Rows are small, and images are decoded again only when they are asked about, so encoding may run far ahead.
MOST_WAITING = 64


@dataclass(frozen=True, slots=True)
class RowBatch:
    """The rows of a batch with their images (None for an error row), and the stamps of the files if they were read."""

    rows: list[Row]
    images: Sequence[RankedImage | None]
    timing: BatchTiming
    stamps: Sequence[ImageStamp] | None = None


def rerank_in_background(
    batches: Iterator[RowBatch],
    reranker: MllmReranker,
    settings: RerankSettings,
    *,
    score: ScoreSettings,
    limits: ImageLimits,
) -> Generator[RowBatch, None, None]:
    """Rerank batches in the background and yield them in order.

    Args:
        batches: of recognised rows.
        reranker: whose MLLM is asked, from several threads.
        settings: when to ask.
        score: has the threshold of `unknown`.
        limits: of image decoding.
    """

    def rerank(batch: RowBatch) -> RowBatch:
        started = time.perf_counter()
        rows = rerank_rows(batch.rows, batch.images, reranker, settings, score=score, limits=limits)
        return replace(batch, rows=rows, timing=replace(batch.timing, rerank_s=time.perf_counter() - started))

    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="rerank")
    waiting: deque[Future[RowBatch]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(rerank, batch))
            while waiting and (waiting[0].done() or len(waiting) > MOST_WAITING):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
