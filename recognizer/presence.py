"""Several labels for one image: how likely it is that a category is in it, beside others.

Confidences are a softmax over the categories, which sums to 1: two objects in one picture share it, so no bound on it
finds both. Here each region decides for itself, and a category is as present as in the region that shows it best:

    p(c) = max_q softmax_c(<r_q, t_c> / T + log prior_c)
    t_c = (w_region_name n_c + w_region_description mean_j d_cj) / sum of w

with the vectors and the prior of `recognizer.score`. On scenes of 2 to 4 objects it orders pairs of image and name
better than score, confidence or cosine (`tests/benchmarks/several_labels.py`). A good bound depends on the encoder and
the names: one that was chosen on names it knows finds little among others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from memory.index import inner_products
from memory.vectors import mean_by_category
from recognizer.errors import RecognizerError
from recognizer.score import Scorer, log_normaliser

if TYPE_CHECKING:
    from recognizer.encoder import ImageFeatures

Box = tuple[float, float, float, float]


class PresenceScorer:
    """Finds all categories that an image shows.

    Args:
        scorer: has the vectors of the categories, the weights of the region terms, and the threshold of regions.
        temperature: of the softmax, that of the confidences.

    Raises:
        RecognizerError: both region terms have the weight 0.
    """

    def __init__(self, scorer: Scorer, temperature: float) -> None:
        """Join the texts of each category into one vector."""
        settings, vectors = scorer.settings, scorer.vectors
        total = settings.region_name + settings.region_description
        if not total:
            raise RecognizerError(
                "several labels come from the regions of an image, but score.region_name and score.region_description "
                "are 0; give one of them a weight, or leave run.all_above (--all-above) out"
            )
        means = mean_by_category(vectors.bare, vectors.offsets, vectors.names)
        texts = settings.region_name / total * vectors.names[:] + settings.region_description / total * means
        self._texts = texts.astype(np.float32)
        self._scorer = scorer
        self._temperature = temperature

    def at_least(self, image: ImageFeatures, least: float) -> Iterator[tuple[int, float, Box | None]]:
        """Yield the categories of one image whose presence reaches a bound, most certain first.

        Args:
            image: features of one image.
            least: the bound, in (0, 1].

        Yields:
            Row of the category, its presence in [0, 1] and the box of its region in pixels of the displayed image;
            None where the image as a whole stands in for regions.
        """
        if not len(self._texts):
            return
        scores = inner_products(self._scorer.visible_regions(image)[0], self._texts)
        if self._scorer.prior is not None:
            scores += self._scorer.prior.summands
        logarithms = scores.astype(np.float64) / self._temperature - log_normaliser(scores, self._temperature)[:, None]
        presence, region = np.exp(logarithms.max(axis=0)), logarithms.argmax(axis=0)
        numbers = self._scorer.region_numbers(image)
        for row in np.argsort(-presence, kind="stable"):
            if presence[row] < least:
                return
            box = None
            if region[row] < len(numbers):
                x0, y0, x1, y1 = (float(edge) for edge in image.boxes_xyxy[0, numbers[region[row]]])
                box = (x0, y0, x1, y1)
            yield int(row), float(presence[row]), box
