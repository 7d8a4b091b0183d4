"""What a head has to add to the zero-shot scores of the exemplars, and the unit in which that is said.

The zero-shot score of image x for category c is linear, <x, u_c>, where u_c are the folded vectors of the category's
texts. It enters on its own scale, that of weighted cosines, not divided by a temperature: so a head's term is added to
the score as it is. Every constant of a head that is an amount of score is a multiple of the *spread*, the root mean
square over exemplars and categories of the scores around each exemplar's mean: about 0.075 for the starter, and less
for encoders whose cosines differ less. Scores that are twice as far apart get a term twice as large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]

MARGIN = 10.0
"""Spreads by which an exemplar's category is to lie above the exemplar's mean score.

Chosen on emoji of fold 1, with costumes, GCompris and the folders of the stamps: 13 gains 1 point at one exemplar per
category and costs 1 to 4 where half of the categories or more have none; 8 loses 3 at one."""
HINGE = 1.5
"""Spreads by which the other categories are to lie below it; one that does already is left alone.

The residual of ProKeR asks all others to be 0, which pushes categories without exemplars down wherever one of their
neighbours has some: on stamps with exemplars for 37 of 403 names they fall from .803 to .735, with the hinge to .810.
With 0 the gain at one exemplar per category falls by 6 points."""

_BLOCK = 4096  # categories whose scores are held at a time: 4096 exemplars of them are 64 MB


@dataclass(frozen=True, slots=True, eq=False)
class Shots:
    """Exemplars beside the categories' texts.

    Attributes:
        vectors: (n, D) float32 unit rows.
        labels: (n,) int64 category of each.
        texts: (C, D) float32, minus their mean, so that `vectors @ texts.T` are scores around each exemplar's mean.
        spread: root mean square of these scores.
    """

    vectors: Floats
    labels: Rows
    texts: Floats
    spread: float

    @classmethod
    def of(cls, vectors: Floats, labels: Rows, texts: Floats, spread: float | None = None) -> Shots:
        """Centre the texts and, where it is not known, measure the spread; `texts` are (C, D) folded vectors."""
        centred = texts - texts.mean(0, keepdims=True) if len(texts) else texts
        if spread is not None:
            return cls(vectors, labels, centred, spread)
        squares = sum(float(np.square(vectors @ centred[part].T, dtype=np.float64).sum()) for part in blocks(texts))
        spread = np.sqrt(squares / max(len(vectors) * len(texts), 1))
        return cls(vectors, labels, centred, float(spread))

    def take(self, rows: Rows) -> Shots:
        """Keep some exemplars; the unit stays."""
        return Shots(self.vectors[rows], self.labels[rows], self.texts, self.spread)

    @property
    def counts(self) -> Rows:
        """(C,) exemplars of each category."""
        return np.bincount(self.labels, minlength=len(self.texts)).astype(np.int64)

    def scores(self, part: slice) -> Floats:
        """Return (n, c) zero-shot scores of a block of categories."""
        scores: Floats = self.vectors @ self.texts[part].T
        return scores

    def own_scores(self) -> Floats:
        """Return (n,) each exemplar's zero-shot score for its own category."""
        own: Floats = np.einsum("nd,nd->n", self.vectors, self.texts[self.labels])
        return own

    def targets(self, part: slice) -> Floats:
        """Return (n, c) what should be added to the scores of a block of categories."""
        own = self.own_scores()[:, None]
        wanted: Floats = -np.maximum(self.scores(part) - own + np.float32(HINGE * self.spread), 0)
        inside = np.flatnonzero((self.labels >= part.start) & (self.labels < part.stop))
        wanted[inside, self.labels[inside] - part.start] = MARGIN * self.spread - own[inside, 0]
        return wanted


def blocks(texts: Floats) -> Iterator[slice]:
    """Yield slices of categories that are worked on together."""
    return (slice(start, min(start + _BLOCK, len(texts))) for start in range(0, len(texts), _BLOCK))
