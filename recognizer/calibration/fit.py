"""Weights by a conditional logit over the categories, then the temperature at which the best answer's confidence holds.

With a_t = w_t / T the confidences are softmax_c(sum_t a_t x_ct), so fitting the slopes a >= 0 by maximum likelihood is
a convex problem, and w = a / sum_t a_t. Each a_t is measured against the spread s_t of its term across the categories
of an image, b_t = a_t s_t, so that cosines and standard scores weigh alike. The fit is pulled towards the present
weights at their own best temperature, so that a dozen images cannot throw the weights into a corner, and a thousand
hardly feel it.

The likelihood's own temperature, 1 / sum_t a_t, makes the most of every category's probability, not of the best one's:
on pictures that the encoder hardly knows it left the best answers 4 percentage points too sure. So the temperature is
fitted again, under these weights, to whether the best answers are right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar  # type: ignore[import-untyped]

from recognizer.calibration.terms import Doubles, TermTable, answer
from recognizer.errors import RecognizerError
from recognizer.settings import TERMS

FEWEST = 20
"""Known images below which nothing is fitted: the fewest that `PULL` was tried with."""
PULL = 3.0
"""Inverse variance of the prior around the present weights.

Simulated with 20 images and 100 categories: where the present weights are the true ones, the loss on other images is
0.04 above theirs; where one term says everything and has a fifth of the present weight, it gets 0.9 of the weight. With
1 the weights scatter more for little gain; with 10 they stay at 0.79."""
SCALE_PULL = 0.01
"""Inverse variance of the prior on the size of the logits: a temperature above 0 even where every image is right."""
WIDEST = 5.0
"""Factor by which the temperature may differ from the likelihood's, so that few images cannot take it to extremes."""
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class ScoreFit:
    """Fitted weights and temperature.

    Attributes:
        weights: by term in the order of `TERMS`, non-negative, summing to 1, of four decimals.
        temperature: > 0.
    """

    weights: tuple[float, ...]
    temperature: float


def fit_score(table: TermTable, present: Sequence[float], terms: Sequence[str] = TERMS) -> ScoreFit:
    """Fit weights and temperature to the known images of a table.

    Args:
        table: terms; images without a true category are left out.
        present: the weights to start from, in the order of `TERMS`.
        terms: those that no other term repeats; the others get weight 0. Where the terms of the descriptions repeat
            those of the names, their present weight counts for the names.

    Raises:
        RecognizerError: too few known images, or the score does not tell their categories from others.
    """
    known = table.take(table.known)
    if len(known) < FEWEST:
        raise RecognizerError(
            f"calibration fits on half of the labelled images, and needs at least {FEWEST} images there whose label is "
            f"a category of the memory; it has {len(known)}. Label {2 * FEWEST} such images or more."
        )
    slopes = fit_slopes(known, present, terms)
    if not slopes.sum() > 0:
        raise RecognizerError(
            f"on these {len(known)} images the score does not tell the true category from others, so that no "
            "temperature fits. Check that the labels belong to the images."
        )
    weights = _rounded(slopes / slopes.sum())
    return ScoreFit(weights, float(f"{fit_temperature(known, weights, 1 / slopes.sum()):.6g}"))


def fit_slopes(known: TermTable, present: Sequence[float], terms: Sequence[str] = TERMS) -> Doubles:
    """Maximise the likelihood of the true categories, pulled towards the present weights.

    Args:
        known: terms of images with a true category.
        present: as in `fit_score`.
        terms: as in `fit_score`.

    Returns:
        (4,) weights over temperature, non-negative, in the order of `TERMS`; all 0 where no term helps.
    """
    columns = np.array([TERMS.index(term) for term in terms])
    problem = LogitProblem(known, columns)
    direction = _starting_weights(present, terms) * problem.spread
    direction /= np.linalg.norm(direction)
    scale = problem.minimise(direction[:, None], np.zeros(1), SCALE_PULL)[0]
    slopes = np.zeros(len(TERMS))
    slopes[columns] = problem.minimise(np.eye(len(columns)), scale * direction, PULL) / problem.spread
    return slopes


def fit_temperature(known: TermTable, weights: Sequence[float], start: float) -> float:
    """Find the temperature at which the best answer's confidence tells best whether it is right.

    The log-loss of right and wrong is minimised against Platt's targets, (r + 1) / (r + 2) for a right answer and
    1 / (w + 2) for a wrong one where r are right and w wrong, so that a perfect record does not ask for certainty.

    Args:
        known: terms of images with a true category.
        weights: in the order of `TERMS`.
        start: a temperature; the one found is at most `WIDEST` times larger or smaller.
    """
    right = answer(known, weights, start).right
    target = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))

    def loss(log_factor: float) -> float:
        sure = answer(known, weights, start * np.exp(log_factor)).confidence
        sure = np.clip(sure, 1e-9, 1 - 1e-9)
        return float(-(target * np.log(sure) + (1 - target) * np.log1p(-sure)).mean())

    reach = np.log(WIDEST)
    # The loss can have more than one valley: look everywhere coarsely, then into the lowest.
    grid = np.linspace(-reach, reach, 17)
    lowest = grid[int(np.argmin([loss(point) for point in grid]))]
    step = grid[1] - grid[0]
    bounds = max(-reach, lowest - step), min(reach, lowest + step)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(start * np.exp(found.x))


class LogitProblem:
    """The mean negative log-likelihood of a conditional logit and its gradient.

    Args:
        table: of known images only.
        columns: which terms take part.

    Attributes:
        spread: (t,) root mean square of each term's deviation from its mean over an image's categories.
    """

    def __init__(self, table: TermTable, columns: NDArray[np.int64]) -> None:
        """Measure the terms' spread."""
        self._table = table
        self._columns = columns
        self.spread = self._measure_spread()

    def loss(self, slopes: Doubles) -> tuple[float, Doubles]:
        """Return mean_i -log softmax(x_i a + offset)[truth_i] and its gradient.

        Args:
            slopes: (t,) a.
        """
        total, gradient = 0.0, np.zeros(len(slopes))
        for images, values in self._table.chunks():
            terms = values[:, :, self._columns]
            truth = self._table.truth[images]
            numbers = np.arange(len(truth))
            logits = terms @ slopes + self._table.log_offset[images]
            peak = logits.max(1, keepdims=True)
            shares = np.exp(logits - peak)
            sums = shares.sum(1, keepdims=True)
            total += float((peak[:, 0] + np.log(sums[:, 0]) - logits[numbers, truth]).sum())
            gradient += np.einsum("nk,nkt->t", shares / sums, terms) - terms[numbers, truth].sum(0)
        return total / len(self._table), gradient / len(self._table)

    def minimise(self, basis: Doubles, centre: Doubles, pull: float) -> Doubles:
        """Minimise the loss plus pull / (2 N) |u - centre|^2 over u >= 0, where a = basis u / spread.

        Args:
            basis: (t, m) non-negative.
            centre: (m,) or, for a square basis, (t,): what u is pulled to.
            pull: inverse variance of the prior, in images.

        Returns:
            (m,) the minimiser; unique, because the loss is convex and the pull strictly so.
        """
        strength = pull / len(self._table)

        def objective(point: Doubles) -> tuple[float, Doubles]:
            loss, gradient = self.loss(basis @ point / self.spread)
            away = point - centre
            return loss + strength / 2 * float(away @ away), basis.T @ (gradient / self.spread) + strength * away

        result = minimize(
            objective,
            np.maximum(centre, 0.1),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, None)] * len(centre),
            options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-8},
        )
        found: Doubles = result.x
        return found

    def _measure_spread(self) -> Doubles:
        total = np.zeros(len(self._columns))
        for images, values in self._table.chunks():
            part = np.isfinite(self._table.log_offset[images])[:, :, None]
            terms = values[:, :, self._columns]
            count = part.sum(1)
            mean = np.where(part, terms, 0).sum(1) / count
            total += (np.where(part, (terms - mean[:, None]) ** 2, 0).sum(1) / count).sum(0)
        spread: Doubles = np.sqrt(total / len(self._table))
        return np.where(spread > 0, spread, 1.0)


def _starting_weights(present: Sequence[float], terms: Sequence[str]) -> Doubles:
    """Return the present weights of the terms that take part, summing to 1."""
    weights = dict(zip(TERMS, present, strict=True))
    if "image_description" not in terms:
        weights["image_name"] += weights["image_description"]
        weights["region_name"] += weights["region_description"]
    start = np.array([weights[term] for term in terms])
    return start / start.sum() if start.sum() > 0 else np.full(len(terms), 1 / len(terms))


def _rounded(weights: Doubles) -> tuple[float, ...]:
    """Round to a few decimals and give the largest what is left, so that a person can read them and they sum to 1."""
    rounded = weights.round(_DIGITS)
    rounded[rounded.argmax()] += 1 - rounded.sum()
    return tuple(rounded.round(_DIGITS).tolist())


def fit_threshold(confidence: Doubles, known: NDArray[np.bool_]) -> float | None:
    """Find the threshold of `unknown` with the best balanced accuracy; of equally good ones the lowest.

    It lies halfway between the two neighbouring confidences that it parts, or is 0.

    Args:
        confidence: (N,).
        known: (N,) whether the image shows a category of the memory.

    Returns:
        None where all images are known, or none is.
    """
    if known.all() or not known.any():
        return None
    values, place = np.unique(confidence, return_inverse=True)
    known_at = np.bincount(place, weights=known) / known.sum()
    unknown_at = np.bincount(place, weights=~known) / (~known).sum()
    # Entry i: unknown found less known lost, where everything below values[i] is called unknown.
    gain = np.r_[0.0, np.cumsum(unknown_at - known_at)[:-1]]
    best = int(gain.round(12).argmax())  # rounded, so that equally good ones are equal
    return 0.0 if best == 0 else halfway(float(values[best - 1]), float(values[best]))


def halfway(below: float, above: float) -> float:
    """Return a threshold between two numbers that parts them: the first is below it, the second is not."""
    middle = below + (above - below) / 2
    return middle if below < middle else above
