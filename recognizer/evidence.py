"""Why a category scored what it scored: the pieces of evidence that its score is the sum of.

A piece is one text or exemplar compared with the image or its best region. Its term is one of `settings.TERMS`; its
value is a cosine (a standard score for `exemplar`); its weight is the term's weight, divided by the number of the
category's descriptions where the term is a mean over them. Values are those of `Scorer.similarities`, which the terms
of the score average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recognizer.results.row import EvidenceRow
from recognizer.score import Floats, Scorer, Similarities

if TYPE_CHECKING:
    from recognizer.encoder import ImageFeatures


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
    one = features.take(image)
    similar = scorer.similarities(one, np.asarray(rows, np.int64), exclude=exclude[image : image + 1])
    pieces = _Pieces(scorer, one, similar)
    return [
        sorted(pieces.of_category(place, row), key=lambda piece: -piece.contribution) for place, row in enumerate(rows)
    ]


class _Pieces:
    """One image beside the memory's vectors and what it has in common with the explained categories."""

    def __init__(self, scorer: Scorer, one: ImageFeatures, similar: Similarities) -> None:
        self.vectors, self.settings, self.similar = scorer.vectors, scorer.settings, similar
        self.image = one.image[0]
        self.regions: Floats = scorer.visible_regions(one)[0]
        self.numbers = np.flatnonzero(one.region_weight[0] >= scorer.settings.region_threshold)
        self.boxes_xyxy = one.boxes_xyxy[0]

    def of_category(self, place: int, row: int) -> Iterator[EvidenceRow]:
        """Yield the pieces of the category at a place of the similarities and a row of the memory."""
        similar, weights = self.similar, self.settings
        name, name_vector = self.vectors.categories[row].name, self.vectors.names[row]
        in_image, in_region = float(similar.image_name[0, place]), float(similar.region_name[0, place])
        columns = range(int(similar.offsets[place]), int(similar.offsets[place + 1]))
        if weights.image_name:
            yield _piece("image_name", name, in_image, weights.image_name)
        if weights.image_description:
            for column in columns:
                text = self.vectors.descriptions[similar.descriptions[column]]
                value = float(similar.image_description[0, column])
                yield _piece("image_description", text, value, weights.image_description / len(columns))
            if not columns:  # the name is the category's only description
                yield _piece("image_description", name, in_image, weights.image_description)
        if weights.region_description:
            for column in columns:
                number = int(similar.descriptions[column])
                text, vector = self.vectors.descriptions[number], self.vectors.bare[number]
                value, weight = float(similar.region_description[0, column]), weights.region_description / len(columns)
                yield self._best_region("region_description", text, vector, value, weight)
            if not columns:
                yield self._best_region("region_description", name, name_vector, in_region, weights.region_description)
        if weights.region_name:
            yield self._best_region("region_name", name, name_vector, in_region, weights.region_name)
        if weights.exemplar and len(self.vectors.exemplars):
            value = float(similar.exemplar[0, place])
            yield _piece("exemplar", self._nearest_exemplar(row), value, weights.exemplar)

    def _nearest_exemplar(self, row: int) -> str:
        """Return where the category's exemplar nearest to the image lies; empty for a category without any."""
        start, stop = self.vectors.exemplar_offsets[row], self.vectors.exemplar_offsets[row + 1]
        if start == stop:
            return ""
        nearest = int((self.vectors.exemplars[start:stop] @ self.image).argmax())
        return self.vectors.exemplar_references[int(start) + nearest]

    def _best_region(self, term: str, text: str, vector: Floats, value: float, weight: float) -> EvidenceRow:
        if not len(self.numbers):  # no region reached the threshold: the whole image stood in for them
            return _piece(term, text, value, weight)
        region = int(self.numbers[(self.regions @ vector).argmax()])
        x0, y0, x1, y1 = (float(edge) for edge in self.boxes_xyxy[region])
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
