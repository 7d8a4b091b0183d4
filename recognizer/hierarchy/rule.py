"""What an image needs to get a label: by the settings of the score, and by what a calibration has stored with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from recognizer.errors import RecognizerError

if TYPE_CHECKING:
    from recognizer.settings import ScoreSettings

SPECIESNET = 0.65
"""The threshold of SpeciesNet, of all its levels."""


@dataclass(frozen=True, slots=True)
class LabelRule:
    """What a label needs.

    Attributes:
        least_confidence: below it an image gets no label; None: there is no such bound.
        thresholds: where labels are rolled up, the confidence that each level needs: the category, its group, and so
            on; the last one is that of all levels above. None: labels are categories.
    """

    least_confidence: float | None = None
    thresholds: tuple[float, ...] | None = None

    @property
    def needed(self) -> tuple[float, ...]:
        """The confidence that each level needs, by both."""
        return tuple(max(each, self.least_confidence or 0.0) for each in self.thresholds or (0.0,))


def label_rule(score: ScoreSettings) -> LabelRule:
    """Return what a label needs under some settings.

    Raises:
        RecognizerError: the settings ask for what no calibration has fitted, or for more precision than it supports.
    """
    bounds = [bound for bound in (score.min_confidence, _bound_of_precision(score)) if bound is not None]
    least = max(bounds, default=None)
    if score.roll_up is None:
        return LabelRule(least)
    if score.roll_up != "auto":
        return LabelRule(least, (score.roll_up,))
    if score.precision is not None:
        raise RecognizerError(
            "score.precision is a bound for categories alone, and score.roll_up=auto has thresholds of its own; give "
            "one of them"
        )
    if not score.roll_up_thresholds:
        raise RecognizerError(
            "score.roll_up=auto needs the thresholds that `recognizer calibrate` fits to a memory with groups, where "
            "all its categories compete without a prior; or give a threshold, such as --roll-up 0.65"
        )
    return LabelRule(least, score.roll_up_thresholds)


def roll_up_thresholds(score: ScoreSettings) -> tuple[float, ...]:
    """Return the thresholds to measure roll-up with: those of the settings, or calibrated ones, or SpeciesNet's."""
    if isinstance(score.roll_up, float):
        return (score.roll_up,)
    return score.roll_up_thresholds or (SPECIESNET,)


def _bound_of_precision(score: ScoreSettings) -> float | None:
    """Return the lowest confidence at which the calibration supports the precision that is asked for."""
    if score.precision is None:
        return None
    if not score.precision_curve:
        raise RecognizerError(
            f"score.precision={score.precision:g} needs the curve that `recognizer calibrate` fits, where all "
            "categories of the memory compete; calibrate it, or give --min-confidence"
        )
    fitting = [confidence for confidence, precision, _ in score.precision_curve if precision >= score.precision]
    if not fitting:
        _, best, images = max(score.precision_curve, key=lambda point: point[1])
        raise RecognizerError(
            f"the calibration cannot support a precision of {score.precision:g}: the best reachable precision is "
            f"{int(best * 1000) / 1000:g}, with {images:g} images; ask for that, or calibrate with more labelled images"
        )
    return min(fitting)
