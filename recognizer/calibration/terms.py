"""Tables of the terms of the score, to which weights and temperature are fitted, and the answers that follow from them.

A table holds every category of a small memory. Of a large one it holds, per image, the best by each term, the true
category, and a uniform sample of the rest; each of the sample stands for rest/sample categories, as a logarithm added
to its logit, so that the sum over the kept ones is an unbiased estimate of the softmax's sum over all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memory.vectors import MemoryVectors
from recognizer.settings import TERMS

Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]

UNKNOWN = -1
"""The true category of an image that shows none of the memory's."""

KEEP_ALL = 2000
"""Categories up to which every one is kept; a table is then at most 64 kB per image."""
BEST = 200
"""Best categories by each term that are kept of a larger memory: the likely answers, whatever the weights."""
OTHERS = 200
"""Categories sampled from the rest, which stand for it.

More are sampled where the best by several terms are the same ones, so that every image keeps equally many."""
_CHUNK = 512  # images whose terms are turned into doubles at a time


@dataclass(frozen=True, slots=True, eq=False)
class TermTable:
    """Terms of N images against K kept categories each.

    Attributes:
        values: (N, K, 4) float32, in the order of `TERMS`, the exemplars' term added to each: as weights sum to 1, the
            score then has it once, whatever they are.
        categories: (N, K) int64 category rows of the memory, ascending.
        log_offset: (N, K) float64 added to the logits: 0, log(rest / sample) for a sampled category, -inf for one that
            does not take part.
        truth: (N,) int64 position of the true category among the K, or `UNKNOWN`.
    """

    values: NDArray[np.float32]
    categories: Rows
    log_offset: Doubles
    truth: Rows

    def __len__(self) -> int:
        """Number of images."""
        return len(self.truth)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) whether the true category takes part."""
        takes_part: NDArray[np.bool_] = self.truth != UNKNOWN
        return takes_part

    def true_categories(self) -> Rows:
        """Return (N,) the true category's row, or `UNKNOWN`."""
        rows: Rows = np.where(self.known, self.categories[np.arange(len(self)), self.truth], UNKNOWN)
        return rows

    def take(self, images: Rows | NDArray[np.bool_]) -> TermTable:
        """Keep some images."""
        return TermTable(self.values[images], self.categories[images], self.log_offset[images], self.truth[images])

    def without(self, categories: Rows) -> TermTable:
        """Take categories out, as if the memory had never held them; their images become unknown."""
        out = np.isin(self.categories, categories)
        gone = np.isin(self.true_categories(), categories)
        return replace(
            self, log_offset=np.where(out, -np.inf, self.log_offset), truth=np.where(gone, UNKNOWN, self.truth)
        )

    def chunks(self) -> Iterator[tuple[slice, Doubles]]:
        """Yield slices of the images with their values as doubles."""
        for start in range(0, len(self), _CHUNK):
            images = slice(start, min(start + _CHUNK, len(self)))
            yield images, self.values[images].astype(np.float64)

    @classmethod
    def concatenate(cls, parts: Sequence[TermTable]) -> TermTable:
        """Join tables of equally many categories along the images."""
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.categories for part in parts]),
            np.concatenate([part.log_offset for part in parts]),
            np.concatenate([part.truth for part in parts]),
        )


def distinct_terms(vectors: MemoryVectors) -> tuple[str, ...]:
    """Return the terms that no other term repeats.

    Without descriptions a category has its name as its only one, so those terms repeat the name's.
    """
    repeats = set[str]() if len(vectors.bare) else {"image_description", "region_description"}
    return tuple(term for term in TERMS if term not in repeats)


def make_table(values: NDArray[np.float32], truth_rows: Rows, rng: np.random.Generator) -> TermTable:
    """Choose the categories that are kept of each image.

    Args:
        values: (B, C, 4) terms against every category.
        truth_rows: (B,) true category rows, or `UNKNOWN`.
        rng: of the sample.
    """
    images, total, _ = values.shape
    if total <= KEEP_ALL:
        everything = np.broadcast_to(np.arange(total), (images, total))
        return TermTable(values, everything, np.zeros((images, total)), truth_rows.astype(np.int64))
    best = np.concatenate(
        [np.argpartition(-values[:, :, term], BEST, axis=1)[:, :BEST] for term in range(len(TERMS))], axis=1
    )
    return TermTable.concatenate([_chosen(*one, rng) for one in zip(values, best, truth_rows.tolist(), strict=True)])


def _chosen(values: NDArray[np.float32], best: Rows, truth: int, rng: np.random.Generator) -> TermTable:
    """Keep the best, the truth and a sample of the rest of one image; values are (C, 4)."""
    sure = np.unique(best if truth == UNKNOWN else np.append(best, truth))
    rest, others = len(values) - len(sure), len(TERMS) * BEST + OTHERS - len(sure)
    # The r-th category that is not among the sure ones is r plus how many of the sure ones come before it.
    ranks = rng.choice(rest, others, replace=False, shuffle=False)
    sampled = ranks + np.searchsorted(sure - np.arange(len(sure)), ranks, side="right")
    columns = np.concatenate([sure, sampled])
    order = np.argsort(columns)
    offset = np.repeat([0.0, np.log(rest / others)], [len(sure), others])[order]
    columns = columns[order]
    position = UNKNOWN if truth == UNKNOWN else int(np.searchsorted(columns, truth))
    return TermTable(values[columns][None], columns[None], offset[None], np.array([position]))


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Answers to N images.

    Attributes:
        confidence: (N,) softmax probability of the best category.
        right: (N,) whether it is the true one; never for an unknown image.
        known: (N,) whether the true category takes part.
        loss: (N,) -log of the true category's probability; NaN for an unknown image.
    """

    confidence: Doubles
    right: NDArray[np.bool_]
    known: NDArray[np.bool_]
    loss: Doubles

    def of_known(self) -> Answers:
        """Keep the images whose true category takes part."""
        keep = self.known
        return Answers(self.confidence[keep], self.right[keep], keep[keep], self.loss[keep])


def answer(table: TermTable, weights: Sequence[float], temperature: float) -> Answers:
    """Answer every image.

    Args:
        table: its terms.
        weights: in the order of `TERMS`.
        temperature: > 0, of the softmax over the categories that take part.
    """
    slopes = np.asarray(weights, np.float64) / temperature
    best, confidence, loss = [], [], []
    for images, values in table.chunks():
        offset, truth = table.log_offset[images], table.truth[images]
        logits = values @ slopes
        numbers = np.arange(len(truth))
        # A sampled category stands for many, but competes as one.
        top = np.where(np.isfinite(offset), logits, -np.inf).argmax(1)
        shifted = logits + offset
        peak = shifted.max(1)
        normaliser = peak + np.log(np.exp(shifted - peak[:, None]).sum(1))
        best.append(top)
        confidence.append(np.exp(logits[numbers, top] - normaliser))
        loss.append(normaliser - logits[numbers, truth])
    known = table.known
    return Answers(
        confidence=np.minimum(np.concatenate(confidence), 1.0),  # rounding may lift it above 1
        right=known & (np.concatenate(best) == table.truth),
        known=known,
        loss=np.where(known, np.concatenate(loss), np.nan),
    )
