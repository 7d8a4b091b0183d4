"""Why a category scored what it scored: the pieces of evidence that its score is the sum of.

A piece is one text compared with the image or its best region; its term is one of `settings.TERMS`, its value a cosine,
and its weight the term's, divided by the number of the category's descriptions where the term is a mean over them.
Values of texts are those of `Scorer.similarities`, which the terms of the score average, up to rounding: here one
product per image has all of them. Or it is an exemplar of any category, under the term `EXEMPLAR`: its value is a
similarity exp(-beta (1 - cosine)) and its weight a coefficient of the head, below 0 where the exemplar speaks against
the category. Or it is the prior, under the term `PRIOR`: its value is log(prior / mean prior), its weight the
temperature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from memory.vectors import rows_between
from recognizer.results.row import EvidenceRow
from recognizer.score import Scorer
from recognizer.settings import EXEMPLAR, PRIOR

if TYPE_CHECKING:
    from recognizer.encoder import ImageFeatures


SHOWN = 3
"""Exemplars that are named one by one."""
OTHERS = "(all other exemplars)"


def explain(
    scorer: Scorer, features: ImageFeatures, image: int, rows: Sequence[int], *, exclude: Sequence[str] = ()
) -> list[list[EvidenceRow]]:
    """Take the scores of some categories apart.

    Args:
        scorer: the one that scored them.
        features: of B images.
        image: which of them.
        rows: category rows of the memory.
        exclude: as given to `Scorer.score`.

    Returns:
        Per row its evidence, largest contribution first; contributions add up to the score within 1e-5. Terms of weight
        0 are left out.
    """
    pieces = _Pieces(scorer, features.take(image), rows, exclude[image : image + 1])
    return [
        sorted(pieces.of_category(place), key=lambda piece: -piece.contribution) for place in range(len(pieces.rows))
    ]


class _Pieces:
    """One image beside the vectors of the explained categories."""

    def __init__(self, scorer: Scorer, one: ImageFeatures, rows: Sequence[int], exclude: Sequence[str]) -> None:
        """Compare the image and its visible regions with all texts of the categories.

        The shapes depend on this image and its categories alone, and so does the rounding.
        """
        vectors = scorer.vectors
        self.vectors, self.settings, self.rows = vectors, scorer.settings, list(rows)
        self.prior = scorer.prior
        self.image = one.image[0]
        self.numbers = scorer.region_numbers(one)
        self.boxes_xyxy = one.boxes_xyxy[0]
        descriptions, offsets = rows_between(vectors.offsets, self.rows)
        self.descriptions, self.offsets = descriptions.tolist(), offsets.tolist()
        names, grounded = vectors.names[self.rows], vectors.grounded[descriptions]
        texts = np.concatenate([names, vectors.bare[descriptions]])
        by_region = scorer.visible_regions(one)[0] @ texts.T
        self.by_image: list[float] = [*(names @ self.image).tolist(), *(grounded @ self.image).tolist()]
        self.best = by_region.argmax(axis=0).tolist()
        self.by_region = by_region.max(axis=0).tolist()
        self.exemplars = (
            [] if scorer.head is None else scorer.head.weighed(self.image, self.rows, "".join(exclude), SHOWN)
        )

    def of_category(self, place: int) -> Iterator[EvidenceRow]:
        """Yield the pieces of the category at a place of `rows`."""
        weights, row = self.settings, self.rows[place]
        name = self.vectors.categories[row].name
        numbers = range(self.offsets[place], self.offsets[place + 1])
        texts = [self.vectors.descriptions[self.descriptions[number]] for number in numbers]
        first = len(self.rows)  # names precede descriptions
        if weights.image_name:
            yield _piece("image_name", name, self.by_image[place], weights.image_name)
        if weights.image_description:
            weight = weights.image_description / max(len(texts), 1)
            for number, text in zip(numbers, texts, strict=True):
                yield _piece("image_description", text, self.by_image[first + number], weight)
            if not texts:  # the name is the category's only description
                yield _piece("image_description", name, self.by_image[place], weight)
        if weights.region_description:
            weight = weights.region_description / max(len(texts), 1)
            for number, text in zip(numbers, texts, strict=True):
                yield self._best_region("region_description", text, first + number, weight)
            if not texts:
                yield self._best_region("region_description", name, place, weight)
        if weights.region_name:
            yield self._best_region("region_name", name, place, weights.region_name)
        for one in self.exemplars[place] if self.exemplars else ():
            yield _piece(EXEMPLAR, one.reference or OTHERS, one.similarity, one.coefficient)
        if self.prior is not None:
            yield _piece(PRIOR, name, float(self.prior.logarithms[row]), self.prior.temperature)

    def _best_region(self, term: str, text: str, column: int, weight: float) -> EvidenceRow:
        value, best = self.by_region[column], self.best[column]
        if best == len(self.numbers):  # the whole image, which stood in for regions
            return _piece(term, text, value, weight)
        region = int(self.numbers[best])
        x0, y0, x1, y1 = self.boxes_xyxy[region].tolist()
        return _piece(term, text, value, weight, region=region, box_xyxy=(x0, y0, x1, y1))


def _piece(
    term: str,
    description: str,
    value: float,
    weight: float,
    *,
    region: int | None = None,
    box_xyxy: tuple[float, float, float, float] | None = None,
) -> EvidenceRow:
    return EvidenceRow(
        term=term,
        description=description,
        region=region,
        box_xyxy=box_xyxy,
        value=value,
        weight=weight,
        contribution=weight * value,
    )
