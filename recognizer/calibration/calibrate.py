"""Fit the score to labelled images: weights, temperature and the threshold of `unknown`, on one half of them.

Weights and temperature are fitted against the whole memory, as a run meets it. Only for the threshold, and for how well
unknown images are told, are categories taken out. The other half is looked at once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from recognizer.calibration.figures import Assessment, assess
from recognizer.calibration.fit import UnknownRule, fit_score, fit_threshold
from recognizer.calibration.rerank import RerankFit
from recognizer.calibration.sample import Sample, measure_sample
from recognizer.calibration.split import Half, copy_groups, split_halves
from recognizer.calibration.terms import TERMS, Rows, TermTable, answer, distinct_terms
from recognizer.errors import RecognizerError
from recognizer.evaluation.labelled import LabelledImages
from recognizer.recognizer import Recognizer
from recognizer.settings import ScoreSettings


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What `calibrate` found.

    Attributes:
        score: the fitted settings, `calibrated`.
        before: figures on the report half under the settings that were in force.
        after: the same under the fitted ones.
        fit_rule: the threshold of `unknown` on the images it was fitted on; None where none of them was unknown.
        fit: the half that was fitted on.
        report: the half that `before` and `after` are about.
        copies: images that are a copy of an earlier one.
        failed: images that could not be decoded, by error code.
        unmatched: labels that are no category, with the number of their images, which count as unknown.
        rerank: margin and weight of the reranker, where they were fitted.
    """

    score: ScoreSettings
    before: Assessment
    after: Assessment
    fit_rule: UnknownRule | None
    fit: Half
    report: Half
    copies: int
    failed: Mapping[str, int]
    unmatched: Mapping[str, int]
    rerank: RerankFit | None = None


def calibrate(
    recognizer: Recognizer,
    labelled: LabelledImages,
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Fit the score to labelled images.

    Args:
        recognizer: encoder, memory, and the settings to start from.
        labelled: images; a label that is no category of the memory makes its images unknown ones.
        seed: of the halves, the categories taken out and the resampling.
        progress: called with the number of images done since the last call.

    Raises:
        LabelledSetError: the labels do not fit the memory.
        RecognizerError: too few images, or the score does not tell their categories from others.
    """
    sample = measure_sample(recognizer, labelled, seed=seed, progress=progress)
    halves = split_halves(copy_groups(sample.hashes, sample.vectors), sample.rows, seed=seed)
    fit_table, report_table = sample.table.take(halves.fit), sample.table.take(halves.report)
    before = recognizer.settings.score
    found = fit_score(fit_table, before.weights(), distinct_terms(recognizer.memory.vectors))
    if not report_table.known.any():
        raise RecognizerError(
            f"none of the {len(report_table)} images to report on shows a category of the memory. Label more images."
        )
    held_back = answer(fit_table.without(halves.fit_out), found.weights, found.temperature)
    rule = fit_threshold(held_back.confidence, held_back.known)
    after = before.model_copy(
        update=dict(zip(TERMS, found.weights, strict=True))
        | {
            "temperature": found.temperature,
            "calibrated": True,
            "unknown_threshold": None if rule is None else rule.threshold,
        }
    )
    was = before.temperature or recognizer.encoder.default_temperature
    return Calibration(
        score=after,
        before=_assess(report_table, before, was, halves.report_out, seed),
        after=_assess(report_table, after, found.temperature, halves.report_out, seed),
        fit_rule=rule,
        fit=_half(sample, halves.fit, fit_table, halves.fit_out),
        report=_half(sample, halves.report, report_table, halves.report_out),
        copies=halves.copies,
        failed=sample.failed,
        unmatched=sample.unmatched,
    )


def _assess(table: TermTable, score: ScoreSettings, temperature: float, taken_out: Rows, seed: int) -> Assessment:
    threshold = score.unknown_threshold if score.calibrated else None
    return assess(table, score.weights(), temperature, taken_out=taken_out, threshold=threshold, seed=seed)


def _half(sample: Sample, images: Rows, table: TermTable, taken_out: Rows) -> Half:
    return Half(
        items=[sample.items[number] for number in images.tolist()],
        rows=sample.rows[images],
        taken_out=taken_out,
        unknown=int((~table.without(taken_out).known).sum()),
    )
