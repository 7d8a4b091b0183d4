"""How good one setting of the score is on one half of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recognizer.calibration.answers import answer
from recognizer.calibration.figures import (
    Coverage,
    Reliability,
    auroc,
    bootstrap,
    chance_error,
    coverage_curve,
    reliability,
)
from recognizer.calibration.terms import Rows, TermTable
from recognizer.calibration.unknown import UnknownRule, apply_threshold
from recognizer.metrics import Interval


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """Figures of one setting. All but the last two are over the known images, against the whole memory.

    Attributes:
        top1: accuracy.
        loss: mean negative log-probability of the true category, in nats.
        calibration_error: in bins of equally many images, see `Reliability`. It has no bootstrap interval, because
            drawing images again adds scatter, and scatter adds to it.
        chance_error: what it would be, on average, were every confidence exactly the chance of being right.
        reliability: the bins.
        coverage: accuracy against coverage.
        coverage_area: the area under that curve.
        unknown_auroc: how well the confidence tells known from unknown images, after categories were taken out.
        unknown: what the threshold of `unknown` does to those images; None without a threshold.
    """

    top1: Interval
    loss: Interval
    calibration_error: float
    chance_error: float
    reliability: Reliability
    coverage: Coverage
    coverage_area: Interval
    unknown_auroc: Interval
    unknown: UnknownRule | None


def assess(
    table: TermTable,
    weights: Sequence[float],
    temperature: float,
    *,
    taken_out: Rows,
    threshold: float | None = None,
    seed: int = 0,
) -> Assessment:
    """Measure one setting.

    Args:
        table: of the half; it has at least one known image.
        weights: in the order of `TERMS`.
        temperature: of the confidences.
        taken_out: categories without which known is told from unknown.
        threshold: of `unknown`.
        seed: of the resampling.
    """
    known = answer(table, weights, temperature).of_known()
    count = len(known.confidence)
    fewer = answer(table.without(taken_out), weights, temperature)
    return Assessment(
        top1=bootstrap(lambda drawn: float(known.right[drawn].mean()), count, seed=seed),
        loss=bootstrap(lambda drawn: float(known.loss[drawn].mean()), count, seed=seed),
        calibration_error=reliability(known.confidence, known.right).error,
        chance_error=chance_error(known.confidence, seed=seed),
        reliability=reliability(known.confidence, known.right),
        coverage=coverage_curve(known.confidence, known.right),
        coverage_area=bootstrap(
            lambda drawn: coverage_curve(known.confidence[drawn], known.right[drawn]).area, count, seed=seed
        ),
        unknown_auroc=bootstrap(
            lambda drawn: auroc(fewer.confidence[drawn], fewer.known[drawn]), len(fewer.known), seed=seed
        ),
        unknown=None if threshold is None else apply_threshold(fewer.confidence, fewer.known, threshold),
    )
