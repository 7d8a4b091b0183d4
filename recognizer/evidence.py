"""Why a category scored what it scored: the score taken apart into pieces of evidence that add up to it again.

The score is a sum (see `recognizer.score`), so the explanation is the score and not a story about it. Terms are named
`name`, `description`, `region`, `region_name` and `exemplar`; the weight of a piece is its term's weight, divided by
the number of the category's descriptions where the term is a mean over them; the value is a cosine (less the text's
bias when centring is on; for `exemplar` a standard score).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recognizer.results.row import EvidenceRow
from recognizer.score import Floats, Scorer

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
    one = _Image(scorer, features, image)
    exemplars = None
    if scorer.settings.exemplar and len(scorer.vectors.exemplars):
        exemplars = scorer.exemplar_term(features.image[image : image + 1], exclude[image : image + 1])[0]
    explained = []
    for row in rows:
        evidence = [*one.whole_image(row), *one.by_region(row)]
        if exemplars is not None:
            evidence.append(one.exemplar(row, float(exemplars[row])))
        explained.append(sorted(evidence, key=lambda piece: -piece.contribution))
    return explained


class _Image:
    """One image beside the memory's vectors: what each generator below compares."""

    def __init__(self, scorer: Scorer, features: ImageFeatures, image: int) -> None:
        self.scorer, self.vectors, self.settings = scorer, scorer.vectors, scorer.settings
        self.g = features.image[image]
        keep = features.region_weight[image] >= scorer.settings.region_threshold
        self.numbers = np.flatnonzero(keep)
        self.regions: Floats = features.regions[image][keep] if keep.any() else self.g[None]
        self.boxes_xyxy = features.boxes_xyxy[image][keep]

    def whole_image(self, row: int) -> Iterator[EvidenceRow]:
        vectors, bias, name = self.vectors, self.scorer.bias, self.vectors.categories[row].name
        name_value = float(self.g @ vectors.names[row] - bias.name[row])
        if self.settings.name:
            yield _piece("name", name, name_value, self.settings.name)
        if self.settings.description:
            rows = self._descriptions(row)
            for j in rows:
                value = float(self.g @ vectors.grounded[j] - bias.grounded[j])
                yield _piece("description", vectors.descriptions[j], value, self.settings.description / len(rows))
            if not rows:
                yield _piece("description", name, name_value, self.settings.description)

    def by_region(self, row: int) -> Iterator[EvidenceRow]:
        vectors, bias, name = self.vectors, self.scorer.bias, self.vectors.categories[row].name
        if self.settings.region:
            rows = self._descriptions(row)
            for j in rows:
                share = self.settings.region / len(rows)
                yield self._best_region("region", vectors.descriptions[j], vectors.bare[j], bias.region[j], share)
            if not rows:
                yield self._best_region("region", name, vectors.names[row], bias.region_name[row], self.settings.region)
        if self.settings.region_name:
            yield self._best_region(
                "region_name", name, vectors.names[row], bias.region_name[row], self.settings.region_name
            )

    def exemplar(self, row: int, value: float) -> EvidenceRow:
        start, stop = self.vectors.exemplar_offsets[row], self.vectors.exemplar_offsets[row + 1]
        nearest = ""
        if stop > start:
            nearest = self.vectors.exemplar_references[
                int(start + (self.vectors.exemplars[start:stop] @ self.g).argmax())
            ]
        return _piece("exemplar", nearest, value, self.settings.exemplar)

    def _descriptions(self, row: int) -> range:
        return range(int(self.vectors.offsets[row]), int(self.vectors.offsets[row + 1]))

    def _best_region(self, term: str, text: str, vector: Floats, bias: float, weight: float) -> EvidenceRow:
        similarity = self.regions @ vector
        best = int(similarity.argmax())
        value = float(similarity[best] - bias)
        if not len(self.numbers):  # no region reached the threshold: the whole image stood in for them
            return _piece(term, text, value, weight)
        x0, y0, x1, y1 = (float(edge) for edge in self.boxes_xyxy[best])
        return _piece(term, text, value, weight, region=int(self.numbers[best]), box_xyxy=(x0, y0, x1, y1))


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
