"""What an image needs to get a label: by the settings of the score, and by what a calibration has stored with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recognizer.errors import RecognizerError

if TYPE_CHECKING:
    from recognizer.settings import ScoreSettings

SPECIESNET = 0.65
"""The threshold of SpeciesNet, of all its levels."""
ASKED = (0.9, 0.95, 0.98)
"""Precisions for which people are told from which confidence on labels reach them."""


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


def in_words(thresholds: Sequence[float]) -> str:
    """Say which answer an image gets by the thresholds of the category and of the levels above it, from below."""
    if thresholds[0] <= 0:
        return "every image gets its category, and none a group"
    first = f"the category from confidence {thresholds[0]:.3g} on"
    if len(thresholds) == 1:
        return f"{first}, else the lowest group above it that reaches it"
    parts = [first]
    for level, threshold in enumerate(thresholds[1:], 1):
        if threshold < 1:  # 1 is never reached
            group = "its group" if level == 1 else f"the group {level} levels up"
            above = " or one above it" if level == len(thresholds) - 1 else ""
            parts.append(f"else {group}{above} from {threshold:.3g} on")
    return ", ".join(parts if len(parts) > 1 else [first, "and never a group"])


def confidence_for(curve: Iterable[Sequence[float]], precision: float) -> float | None:
    """Return the lowest confidence at which a calibration supports a precision; None where there is none.

    Args:
        curve: `ScoreSettings.precision_curve`.
        precision: share of right labels.
    """
    return min((confidence for confidence, reached, _ in curve if reached >= precision), default=None)


def _bound_of_precision(score: ScoreSettings) -> float | None:
    """Return the lowest confidence at which the calibration supports the precision that is asked for."""
    if score.precision is None:
        return None
    if not score.precision_curve:
        raise RecognizerError(
            f"score.precision={score.precision:g} needs the curve that `recognizer calibrate` fits, where all "
            "categories of the memory compete; calibrate it, or give --min-confidence"
        )
    bound = confidence_for(score.precision_curve, score.precision)
    if bound is None:
        _, best, images = max(score.precision_curve, key=lambda point: point[1])
        raise RecognizerError(
            f"the calibration cannot support a precision of {score.precision:g}: the best reachable precision is "
            f"{int(best * 1000) / 1000:g}, with {images:g} images; ask for that, or calibrate with more labelled images"
        )
    return bound
