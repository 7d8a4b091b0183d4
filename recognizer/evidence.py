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
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from memory.vectors import rows_between
from recognizer.cores import single_threads
from recognizer.results.row import EvidenceRow
from recognizer.score import Floats, Scorer
from recognizer.settings import EXEMPLAR, PRIOR

if TYPE_CHECKING:
    from recognizer.encoder import ImageFeatures


SHOWN = 3
"""Exemplars that are named one by one."""
OTHERS = "(all other exemplars)"


def explain(
    scorer: Scorer,
    features: ImageFeatures,
    image: int,
    rows: Sequence[int],
    *,
    exclude: Sequence[str] = (),
    kernels: Floats | None = None,
) -> list[list[EvidenceRow]]:
    """Take the scores of some categories apart.

    Args:
        scorer: the one that scored them.
        features: of B images.
        image: which of them.
        rows: category rows of the memory.
        exclude: as given to `Scorer.score`.
        kernels: (m,) those of the image by `Scorer.kernels`; None: they are computed here, with the same result.

    Returns:
        Per row its evidence, largest contribution first; contributions add up to the score within 1e-5. Terms of weight
        0 are left out.
    """
    one = features.take(image)
    if kernels is None and scorer.head is not None:
        kernels = scorer.head.kernels(one.image)[0]
    pieces = _Pieces(scorer, one, rows, exclude[image : image + 1], kernels)
    found = []
    for place in range(len(pieces.rows)):
        own = list(map(_row, pieces.of_category(place)))
        own.sort(key=_contribution, reverse=True)
        found.append(own)
    return found


_row = partial(tuple.__new__, EvidenceRow)  # three times as fast as its name
_contribution = itemgetter(EvidenceRow._fields.index("contribution"))

Piece = tuple[str, str, int | None, Sequence[float] | None, float, float, float]
"""The fields of an `EvidenceRow`. A run makes dozens an image: so they are made column by column."""


class _Pieces:
    """One image beside the vectors of the explained categories."""

    def __init__(
        self, scorer: Scorer, one: ImageFeatures, rows: Sequence[int], exclude: Sequence[str], kernels: Floats | None
    ) -> None:
        """Compare the image and its visible regions with all texts of the categories.

        The shapes depend on this image and its categories alone, and so does the rounding.
        """
        vectors = scorer.vectors
        self.vectors, self.settings, self.rows = vectors, scorer.settings, list(rows)
        self.prior = scorer.prior
        descriptions, offsets = rows_between(vectors.offsets, self.rows)
        self.offsets = offsets.tolist()
        self.texts = [vectors.descriptions[number] for number in descriptions.tolist()]
        names, grounded = vectors.names[self.rows], vectors.grounded[descriptions]
        texts = np.concatenate([names, vectors.bare[descriptions]])
        image = one.image[0]
        with single_threads():
            by_region = scorer.visible_regions(one)[0] @ texts.T
            self.by_image: list[float] = [*(names @ image).tolist(), *(grounded @ image).tolist()]
        numbers = scorer.region_numbers(one)
        # Behind the regions the whole image, where it stands in for some.
        regions, boxes = [*numbers.tolist(), None], [*map(tuple, one.boxes_xyxy[0, numbers].tolist()), None]
        best = by_region.argmax(axis=0).tolist()
        self.regions, self.boxes = [regions[place] for place in best], [boxes[place] for place in best]
        self.by_region: list[float] = by_region.max(axis=0).tolist()
        self.exemplars = (
            []
            if scorer.head is None or kernels is None
            else scorer.head.weighed(kernels, self.rows, "".join(exclude), SHOWN)
        )

    def of_category(self, place: int) -> list[Piece]:
        """Return the pieces of the category at a place of `rows`."""
        found: list[Piece] = []
        weights, row = self.settings, self.rows[place]
        name = [self.vectors.categories[row].name]
        own = slice(place, place + 1)
        texts, each = self.texts[self.offsets[place] : self.offsets[place + 1]], own
        if texts:
            first = len(self.rows)  # names precede descriptions
            each = slice(first + self.offsets[place], first + self.offsets[place + 1])
        else:  # the name is the category's only description
            texts = name
        if weights.image_name:
            found += self._by_image("image_name", name, own, weights.image_name)
        if weights.image_description:
            found += self._by_image("image_description", texts, each, weights.image_description)
        if weights.region_description:
            found += self._by_region("region_description", texts, each, weights.region_description)
        if weights.region_name:
            found += self._by_region("region_name", name, own, weights.region_name)
        for one in self.exemplars[place] if self.exemplars else ():
            contribution = one.coefficient * one.similarity
            found.append((EXEMPLAR, one.reference or OTHERS, None, None, one.similarity, one.coefficient, contribution))
        if self.prior is not None:
            value = float(self.prior.logarithms[row])
            temperature = self.prior.temperature
            found.append((PRIOR, name[0], None, None, value, temperature, temperature * value))
        return found

    def _by_image(self, term: str, texts: Sequence[str], columns: slice, total: float) -> Iterator[Piece]:
        weight, values = total / len(texts), self.by_image[columns]
        contributions = [weight * value for value in values]
        return zip(repeat(term), texts, repeat(None), repeat(None), values, repeat(weight), contributions)

    def _by_region(self, term: str, texts: Sequence[str], columns: slice, total: float) -> Iterator[Piece]:
        weight, values = total / len(texts), self.by_region[columns]
        regions, boxes, contributions = self.regions[columns], self.boxes[columns], [weight * each for each in values]
        return zip(repeat(term), texts, regions, boxes, values, repeat(weight), contributions)
