"""Fit the score to labelled images: weights, temperature and the threshold of `unknown`, on one half of them.

Weights and temperature are fitted against the whole memory, as a run meets it. Categories are taken out only to fit the
threshold, and to measure how well unknown images are recognised as such. The other half is used once, to report on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recognizer.calibration.figures import Assessment, assess
from recognizer.calibration.fit import fit_score, fit_threshold
from recognizer.calibration.precision import PrecisionReached, precision_curve, precision_reached
from recognizer.calibration.rerank import RerankFit
from recognizer.calibration.roll_up import RollUpFit, climb_table, fit_thresholds
from recognizer.calibration.sample import Split, copy_groups, measure_sample, split_halves
from recognizer.calibration.terms import UNKNOWN, TermTable, answer, distinct_terms
from recognizer.errors import RecognizerError
from recognizer.evaluation.labelled import LabelledImages
from recognizer.hierarchy.climbs import Climbs, roll_up_figures
from recognizer.hierarchy.tree import Tree
from recognizer.recognizer import Recognizer
from recognizer.settings import ScoreSettings
from recognizer.unknown.settings import UnknownSettings


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The result of `calibrate`.

    Attributes:
        score: the fitted settings, `calibrated`.
        before: figures on the report half under the settings before the calibration.
        after: the same under the fitted ones.
        fit: the half that was fitted on.
        report: the half that `before` and `after` are about.
        copies: images that are a copy of an earlier one.
        failed: images that could not be decoded, by error code.
        unmatched: labels that name no category, with the number of their images, which count as unknown.
        precision: what asking for some precision gives on the report half, as far as the curve supports it.
        unknown: threshold of the rule by negative labels, in a memory that has them.
        rerank: margin and weight of the reranker, where they were fitted.
        roll_up: thresholds of roll-up; None in a memory without groups.
        seen: sha256 of the files of the half that was fitted on.
    """

    score: ScoreSettings
    before: Assessment
    after: Assessment
    fit: Split
    report: Split
    copies: int
    failed: Mapping[str, int]
    unmatched: Mapping[str, int]
    precision: Sequence[PrecisionReached]
    unknown: UnknownSettings | None = None
    rerank: RerankFit | None = None
    roll_up: RollUpFit | None = None
    seen: Sequence[str] = ()


def calibrate(
    recognizer: Recognizer,
    labelled: LabelledImages,
    *,
    roll_up_accuracy: float = 0.9,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Fit the score to labelled images.

    Args:
        recognizer: encoder, memory, and the settings to start from.
        labelled: images; a label that names no category of the memory makes its images unknown ones.
        roll_up_accuracy: share of right ones, in (0, 1), that the thresholds of roll-up are to give at each level.
        seed: of the halves, the categories taken out and the resampling.
        progress: called with the number of images done since the last call.

    Raises:
        LabelledSetError: the labels do not fit the memory.
        RecognizerError: too few images, or the score does not tell their categories from others.
    """
    sample = measure_sample(recognizer, labelled, seed=seed, progress=progress)
    groups = copy_groups(sample.hashes, sample.vectors)
    fit, report = split_halves(groups, sample.items, sample.rows, seed=seed)
    fit_table, report_table = sample.table.take(fit.images), sample.table.take(report.images)
    before = recognizer.settings.score
    fitted = fit_score(fit_table, before.weights(), distinct_terms(recognizer.memory.vectors))
    if not report_table.known.any():
        raise RecognizerError(
            f"none of the {len(report_table)} images to report on shows a category of the memory. Label more images."
        )
    with_unknown = answer(fit_table.without(fit.taken_out), fitted.weights, fitted.temperature)
    tree = Tree(recognizer.memory.vectors.categories)

    def climbs(table: TermTable) -> Climbs:
        return climb_table(table.take(table.known), fitted.weights, fitted.temperature, tree)

    roll_up = None
    if len(tree):
        thresholds = fit_thresholds(climbs(fit_table), roll_up_accuracy)
        report_figures = roll_up_figures(climbs(report_table), thresholds, seed=seed)
        roll_up = RollUpFit(roll_up_accuracy, thresholds, report_figures)
    answers = answer(fit_table, fitted.weights, fitted.temperature)
    after = before.with_weights(fitted.weights).model_copy(
        update={
            "temperature": fitted.temperature,
            "calibrated": True,
            "unknown_threshold": fit_threshold(with_unknown.confidence, with_unknown.known),
            "precision_curve": precision_curve(answers.confidence, answers.right),
            "roll_up_thresholds": roll_up.thresholds if roll_up else None,
        }
    )

    def figures(score: ScoreSettings) -> Assessment:
        return assess(
            report_table,
            score.weights(),
            score.temperature or recognizer.encoder.default_temperature,
            taken_out=report.taken_out,
            threshold=score.unknown_threshold if score.calibrated else None,
            seed=seed,
        )

    rule = recognizer.negatives
    return Calibration(
        score=after,
        before=figures(before),
        after=figures(after),
        fit=fit,
        report=report,
        copies=len(groups) - len(set(groups.tolist())),
        failed=sample.failed,
        unmatched=sample.unmatched,
        roll_up=roll_up,
        seen=[sample.hashes[place] for place in fit.images.tolist()],
        precision=precision_reached(
            after.precision_curve or (), answer(report_table, fitted.weights, fitted.temperature)
        ),
        unknown=rule.fit(sample.vectors[fit.images[fit.rows != UNKNOWN]]) if rule is not None else None,
    )
