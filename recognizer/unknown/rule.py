"""Whether an image shows none of the categories: the confidence of its best name, and names against negative labels.

For the image vector g, the names n_c of all categories, the negative labels m_k and the encoder's temperature t, the
known score is

    max_c exp(<g, n_c> / t) / sum_c exp(<g, n_c> / t) * share^w,
    share = sum_c exp(2 <g, n_c> / t) / (sum_c exp(2 <g, n_c> / t) + sum_k exp(2 <g, m_k> / t))

the confidence of the best name, and NegLabel's share of all names (arXiv 2403.20078) to the power w. Either says what
the other does not: the confidence, that one name stands out; the share, that a name fits at all. Alone, the share is
clearly worse than the confidence on GCompris; the product is clearly worse on none of 13 sets, and better on five
(`tests/benchmarks/README.md`). Over eight development sets the product has a mean AUROC of .637, the confidence .618.
NegLabel's average over 5 or 100 groups of negative labels has .627 or .620, and .628 without the hundredth of them that
is nearest to the best name. Negative labels near any name count, too: without the nearest tenth it is .634. Scores of
name and negative label together, as in NegRefine (arXiv 2507.09795), add .001. Regions are not used: exemplars have
none.

The threshold is the k-th smallest known score of n images that show the categories, with k = floor(rate (n + 1)). For
images like those, the expected share that is called unknown is then at most the rate (split conformal prediction).
The images are those of `calibrate`, or the exemplars of the memory: the score compares with names alone, so that an
exemplar is as good as any other image. Where there are neither, or too few for the rate, there is no threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memory.index import inner_products
from memory.vectors import MemoryVectors
from recognizer.errors import RecognizerError
from recognizer.results.row import KnownRow
from recognizer.unknown.settings import UnknownSettings

SHARPER = 0.5
"""Temperature of the share, as a fraction of the encoder's.

Mean AUROC over eight development sets at 1, 0.7, 0.5 and 0.25 of the starter's: .625, .632, .637, .639, of which the
last loses 2 points on GCompris. With thousands of rivals, what counts is the nearest of them."""
WEIGHT = 0.2
"""Power of the share.

With 0, 0.1, 0.2, 0.3 and 0.5 the AUROC is .646, .676, .692, .702, .708 on stamps and .723, .749, .740, .727, .711 on
GCompris, where the confidence with regions has .748."""
MOST_EXEMPLARS = 2000
"""Exemplars that are scored, evenly spaced; 2,000 give a share of 5 % to within 0.5 %."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class KnownScores:
    """The known scores of B images.

    Attributes:
        scores: (B,) in (0, 1].
        categories: (B,) rows of the best names.
        negatives: (B,) rows of the nearest negative labels.
    """

    scores: Doubles
    categories: NDArray[np.int64]
    negatives: NDArray[np.int64]


class NegativesRule:
    """Decides by the negative labels of a memory.

    Args:
        vectors: of the memory, or of the categories that compete; at least one.
        settings: rate and fitted threshold.
        temperature: of the encoder.
        comparable: whether the fitted threshold is of these categories.

    Attributes:
        threshold: known score below which an image is unknown; None: there is none.
        source: where the threshold is from.

    Raises:
        RecognizerError: the memory has no negative labels.
    """

    def __init__(
        self, vectors: MemoryVectors, settings: UnknownSettings, temperature: float, *, comparable: bool = True
    ) -> None:
        """Find the threshold."""
        if not len(vectors.negatives):
            raise RecognizerError(
                "unknown.rule is negatives, and the memory has no negative labels. Build it again with --unknown "
                "negatives: texts that it holds are not encoded again"
            )
        self._vectors = vectors
        self._settings = settings
        self._temperature = temperature
        self.source: Literal["fitted", "exemplars"] | None = None
        self.threshold = settings.usable_threshold if comparable else None
        if self.threshold is not None:
            self.source = "fitted"
        elif len(vectors.exemplars):
            self.threshold = threshold_at(self.measure(_some(vectors.exemplars)).scores, settings.rate)
            self.source = None if self.threshold is None else "exemplars"

    @classmethod
    def of_settings(
        cls, vectors: MemoryVectors, settings: UnknownSettings, temperature: float, *, comparable: bool = True
    ) -> NegativesRule | None:
        """Return the rule, or None where confidences decide or there is no category; arguments as for the class."""
        by_negatives = settings.rule == "negatives" or (settings.rule == "auto" and len(vectors.negatives) > 0)
        if not by_negatives or not len(vectors.names):
            return None
        return cls(vectors, settings, temperature, comparable=comparable)

    def measure(self, images: NDArray[np.float32]) -> KnownScores:
        """Return the known scores of images.

        Args:
            images: (B, D) unit rows.
        """
        from scipy.special import logsumexp  # type: ignore[import-untyped]  # takes a fifth of a second to import

        names = inner_products(images, self._vectors.names).astype(np.float64)
        rivals = inner_products(images, self._vectors.negatives).astype(np.float64)
        sharper = SHARPER * self._temperature
        confidences = names.max(axis=1) / self._temperature - logsumexp(names / self._temperature, axis=1)
        known, unlike = logsumexp(names / sharper, axis=1), logsumexp(rivals / sharper, axis=1)
        scores = np.exp(confidences + WEIGHT * (known - np.logaddexp(known, unlike)))
        return KnownScores(scores, names.argmax(axis=1), rivals.argmax(axis=1))

    def fit(self, images: NDArray[np.float32]) -> UnknownSettings | None:
        """Return the settings with a threshold fitted on images of the categories; None where they are too few.

        Args:
            images: (n, D) unit rows.
        """
        threshold = threshold_at(self.measure(images).scores, self._settings.rate)
        if threshold is None:
            return None
        # Rounded down, so that the image at the threshold is not called unknown.
        fitted = {"threshold": float(f"{threshold * (1 - 1e-6):.7g}"), "fitted_for": self._settings.rate}
        return self._settings.model_copy(update=fitted)

    def advice(self) -> str | None:
        """Say how to have a threshold where there is none."""
        if self.threshold is not None:
            return None
        fewest = fewest_images(self._settings.rate)
        return (
            "`unknown` stays null, because nothing says where its threshold lies. Build the memory with at least "
            f"{fewest} exemplars, or run `recognizer calibrate IMAGES --known` on {fewest} images of the categories"
        )

    def rows(self, images: NDArray[np.float32]) -> list[KnownRow]:
        """Return what the rule says of images, for their rows; `images` as in `measure`."""
        known = self.measure(images)
        return [
            KnownRow(
                score=float(score),
                threshold=self.threshold,
                category=self._vectors.categories[category].name,
                negative=self._vectors.negative_names[negative],
            )
            for score, category, negative in zip(known.scores, known.categories, known.negatives, strict=True)
        ]


def threshold_at(scores: Doubles, rate: float) -> float | None:
    """Return the threshold below which at most a share of images of the categories is expected.

    Args:
        scores: (n,) known scores of images that show the categories.
        rate: the share, in (0, 1).

    Returns:
        The score at place floor(rate (n + 1)) from below; None where that is 0, with fewer than 1 / rate - 1 images.
    """
    place = int(rate * (len(scores) + 1) + 1e-9)  # 0.05 * 20 is just 1
    return float(np.sort(scores)[place - 1]) if place else None


def fewest_images(rate: float) -> int:
    """Return how many images a threshold at this rate needs at least."""
    return int(np.ceil(1 / rate - 1 - 1e-9))


def _some(exemplars: NDArray[np.float32]) -> NDArray[np.float32]:
    places = np.linspace(0, len(exemplars) - 1, min(len(exemplars), MOST_EXEMPLARS)).round().astype(int)
    chosen: NDArray[np.float32] = exemplars[places]
    return chosen
