"""Reranking of scores that no memory made: the best names of each image become rows, as `run` would write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memory import Category
from memory.index import best_columns
from recognizer.console import progress_bar
from recognizer.evaluation.metrics import truth_ranks
from recognizer.evaluation.reranked import RerankEvaluation, evaluate_reranking
from recognizer.hierarchy.rule import LabelRule
from recognizer.images import ImageItem
from recognizer.reranking.questions import RankedImage
from recognizer.reranking.stage import RowBatch
from recognizer.results import BatchTiming, ResultRow
from recognizer.results.row import CandidateRow
from recognizer.score import log_normaliser
from recognizer.settings import Settings

if TYPE_CHECKING:
    from rerank.reranker import MllmReranker


class ScoredImages:
    """Collects the best names of images, batch by batch, until an MLLM orders them.

    Args:
        names: (C) of the classes.
        settings: how many names are ranked, and when to ask.
        temperature: divides scores before the softmax.
    """

    def __init__(self, names: Sequence[str], settings: Settings, temperature: float) -> None:
        """Begin without images."""
        self._names, self._settings, self._temperature = names, settings, temperature
        self._batches: list[RowBatch] = []
        self._truth: list[int] = []
        self._ranks = [np.zeros(0, np.int64)]

    def add(
        self,
        scores: NDArray[np.float32],
        truth: NDArray[np.int64],
        items: Sequence[ImageItem],
        hashes: Sequence[str],
    ) -> None:
        """Add a batch.

        Args:
            scores: (B, C).
            truth: (B,) true class of each image.
            items: (B) the images.
            hashes: (B) SHA-256 of their files.
        """
        best = best_columns(scores, self._settings.run.top_k)
        logarithms = np.take_along_axis(scores.astype(np.float64), best, axis=1) / self._temperature
        confidences = np.exp(logarithms - log_normaliser(scores, self._temperature)[:, None])
        rows = [
            self._row(item, columns, own, confidence)
            for item, columns, own, confidence in zip(items, best, scores, confidences, strict=True)
        ]
        images = [RankedImage(item, digest) for item, digest in zip(items, hashes, strict=True)]
        self._batches.append(RowBatch([*rows], images, BatchTiming(decode_s=0, encode_s=0, score_s=0)))
        self._truth += truth.tolist()
        self._ranks.append(truth_ranks(scores, truth))

    def reranked(self, reranker: MllmReranker) -> RerankEvaluation:
        """Ask the MLLM about the images."""
        with progress_bar(len(self._truth), "images", "rerank") as advance:
            return evaluate_reranking(
                self._batches,
                self._truth,
                np.concatenate(self._ranks),
                categories=[Category(name) for name in self._names],
                reranker=reranker,
                settings=self._settings,
                progress=advance,
            )

    def _row(
        self,
        item: ImageItem,
        columns: NDArray[np.int64],
        scores: NDArray[np.float32],
        confidences: NDArray[np.float64],
    ) -> ResultRow:
        candidates = [
            CandidateRow(category=self._names[column], score=float(scores[column]), confidence=float(confidence))
            for column, confidence in zip(columns.tolist(), confidences, strict=True)
        ]
        row = ResultRow(
            path=item.key,
            path_b64=item.key_base64,
            label=None,
            confidence=None,
            calibrated=False,
            unknown=None,
            candidates=candidates,
        )
        return row.with_label(LabelRule())
