"""A calibration as lines of text, as the settings file that a run reads, as JSON and as diagrams."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from memory import Memory
from memory.durable import replacing
from memory.wording import counted
from recognizer.calibration.calibrate import Calibration
from recognizer.calibration.figures import Assessment
from recognizer.calibration.precision import PrecisionReached
from recognizer.calibration.rerank import RerankFit
from recognizer.calibration.roll_up import RollUpFit
from recognizer.calibration.sample import Split
from recognizer.calibration.seen import write_seen
from recognizer.console import table
from recognizer.evaluation.metrics import Interval
from recognizer.hierarchy.rule import ASKED, in_words
from recognizer.memory_settings import FROM_MEMORY, calibration_file, calibration_place, memory_identity, sealed
from recognizer.recognizer import Recognizer
from recognizer.settings import TERMS
from recognizer.unknown.settings import UnknownSettings

_COMMENT = """\
# Written by `recognizer calibrate`. A run reads it from the memory's directory; it overrides the memory's settings, and
# --config and --set override it. `calibration` says what it was fitted on; for another version of the memory the file
# is ignored. To change it by hand, move it out of the memory and give it with --config.
"""


def write_settings(calibration: Calibration, memory: Memory, path: Path) -> None:
    """Write the settings file whole or not at all.

    Args:
        calibration: the fitted settings and their figures.
        memory: the one they were fitted for.
        path: of the file.

    Raises:
        OutputUnusable: the disk refuses.
    """
    basis = {
        **memory_identity(memory),
        "images": _image_counts(calibration),
        "before": figures(calibration.before),
        "after": figures(calibration.after),
    }
    score = calibration.score.model_dump(mode="json", include=set(FROM_MEMORY["score"]))
    content: dict[str, Any] = {"calibration": basis, "score": score}
    if calibration.rerank is not None:
        content["rerank"] = {
            "margin": calibration.rerank.margin.margin,
            "weight": calibration.rerank.weight,
            "fitted_for": calibration.rerank.model,
        }
    if calibration.unknown is not None:
        content["unknown"] = fitted_section(calibration.unknown)
    write_content(content, path)


def fitted_section(unknown: UnknownSettings) -> dict[str, Any]:
    """Return what a settings file has of the fitted rule by negative labels."""
    return unknown.model_dump(include={"rate", "threshold", "fitted_for"})


def write_content(content: Mapping[str, Any], path: Path) -> None:
    """Write a settings file whole or not at all, sealed.

    Args:
        content: the section `calibration`, which says what was fitted on, and sections of settings.
        path: of the file.

    Raises:
        OutputUnusable: the disk refuses.
    """
    with replacing(path) as draft:
        draft.write_bytes(sealed(_COMMENT + yaml.safe_dump(dict(content), sort_keys=False)).encode())


def _image_counts(calibration: Calibration) -> dict[str, int]:
    fit, report = calibration.fit, calibration.report
    return {
        "fit": len(fit.items),
        "fit_unknown": fit.unknown,
        "report": len(report.items),
        "report_unknown": report.unknown,
    }


def print_lines(calibration: Calibration) -> Iterator[str]:
    """Yield the figures before and after, the fitted settings and the images behind them, as text."""
    before, after = calibration.before, calibration.after
    rows = [
        ["top-1", _show(before.top1), _show(after.top1)],
        ["mean -log p of the truth", _show(before.loss), _show(after.loss)],
        ["expected calibration error", f"{before.reliability.error:.3f}", f"{after.reliability.error:.3f}"],
        ["  if calibrated perfectly", f"{before.chance_error:.3f}", f"{after.chance_error:.3f}"],
        ["area under coverage curve", _show(before.coverage_area), _show(after.coverage_area)],
        ["AUROC of unknown", _show(before.unknown_auroc), _show(after.unknown_auroc)],
        ["known kept / unknown found", _show_shares(before), _show_shares(after)],
    ]
    yield table(["", "before", "after"], rows)
    yield ""
    yield f"fitted on {_shown_half(calibration.fit)}"
    yield f"reported on {_shown_half(calibration.report)}, none of them fitted on; 95 % bootstrap intervals in brackets"
    score = calibration.score
    weights = ", ".join(f"{term} {weight:g}" for term, weight in zip(TERMS, score.weights(), strict=True))
    yield f"weights: {weights}; temperature {score.temperature:g}"
    if score.unknown_threshold is None:
        yield "no threshold of unknown: no image to fit on was unknown"
    else:
        yield f"unknown below confidence {score.unknown_threshold:.3g}, best for the mean of kept and found"
    yield from _precision_lines(calibration)
    if calibration.roll_up is not None:
        yield from _roll_up_lines(calibration.roll_up)
    if calibration.unknown is not None and calibration.unknown.threshold is not None:
        yield (
            f"by negative labels unknown below a known score of {calibration.unknown.threshold:.3g}, which calls "
            f"{calibration.unknown.rate:.0%} of images of the categories unknown"
        )
    if calibration.rerank is not None:
        yield "the figures above and the diagrams are of retrieval, before reranking"
        yield from _rerank_lines(calibration.rerank)
    if calibration.copies:
        yield f"{counted(calibration.copies, 'copy')} of other images; a copy stays in the half of its original"
    for code, number in calibration.failed.items():
        yield f"{counted(number, 'image')} could not be decoded ({code})"
    for label, number in calibration.unmatched.items():
        yield f"{counted(number, 'image')} taken for unknown: {label!r} is no category of the memory"


def _shown_half(half: Split) -> str:
    """Say how many images a half has, and which of them count as unknown."""
    away = int(np.isin(half.rows, half.taken_out).sum())
    parts = [
        f"{counted(away, 'image')} of {counted(len(half.taken_out), 'category')} that were taken out",
        f"{counted(half.unknown - away, 'image')} with a label that names no category",
    ]
    unknown = [part for part, number in zip(parts, (away, half.unknown - away), strict=True) if number]
    return f"{counted(len(half.items), 'image')}, unknown among them: {' and '.join(unknown) or 'none'}"


def figures(assessment: Assessment) -> dict[str, float | None]:
    """Return the figures by name; None where there is none, such as the AUROC without unknown images."""
    values = {
        "top1": assessment.top1.value,
        "loss": assessment.loss.value,
        "calibration_error": assessment.reliability.error,
        "chance_error": assessment.chance_error,
        "coverage_area": assessment.coverage_area.value,
        "unknown_auroc": assessment.unknown_auroc.value,
    }
    if assessment.known_kept is not None and assessment.unknown_found is not None:
        values |= {"known_kept": assessment.known_kept, "unknown_found": assessment.unknown_found}
    return {name: _number(value) for name, value in values.items()}


def write_json(calibration: Calibration, path: Path) -> None:
    """Write settings, figures with their intervals, bins and both curves.

    Raises:
        OutputUnusable: the disk refuses.
    """
    content = {
        "score": calibration.score.model_dump(mode="json"),
        "precision": [_plain(each) for each in calibration.precision],
        "roll_up": None if calibration.roll_up is None else _plain(calibration.roll_up),
        "rerank": None if calibration.rerank is None else asdict(calibration.rerank),
        "images": {
            **_image_counts(calibration),
            "copies": calibration.copies,
            "failed": dict(calibration.failed),
            "unmatched": dict(calibration.unmatched),
        },
        "before": _detailed(calibration.before),
        "after": _detailed(calibration.after),
    }
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _detailed(assessment: Assessment) -> dict[str, object]:
    content: dict[str, object] = dict(figures(assessment))
    for name in ("top1", "loss", "coverage_area", "unknown_auroc"):
        interval: Interval = getattr(assessment, name)
        content[f"{name}_interval"] = [_number(interval.low), _number(interval.high)]
    bins, curve = assessment.reliability, assessment.coverage
    columns = (bins.confidence.tolist(), bins.accuracy.tolist(), bins.counts.tolist())
    content["reliability"] = [
        {"confidence": confidence, "accuracy": accuracy, "images": images}
        for confidence, accuracy, images in zip(*columns, strict=True)
    ]
    content["coverage"] = {name: getattr(curve, name).tolist() for name in ("confidence", "coverage", "accuracy")}
    return content


def _precision_lines(calibration: Calibration) -> Iterator[str]:
    for each in calibration.precision:
        reached = f"{each.reached:.3f}" if math.isfinite(each.reached) else "-"
        yield (
            f"--precision {each.asked:g}: from confidence {each.confidence:.3g} on; on the others {each.labelled:.0%} "
            f"get a label, and {reached} of them the right one"
        )
    curve = calibration.score.precision_curve
    if curve and curve[-1][1] < ASKED[-1]:
        yield (
            f"the best precision that these images support is {curve[-1][1]:.3f}, where {curve[-1][2]:g} of them get a "
            "label"
        )


def _roll_up_lines(fit: RollUpFit) -> Iterator[str]:
    yield f"--roll-up auto: accuracy {fit.stated:g} stated: {in_words(fit.thresholds)}"
    if min(fit.thresholds[1:], default=0) >= 1:
        yield "categories alone are as accurate as stated, so no group is an answer"
    report = fit.report
    yield (
        f"on the others {_show(report.accuracy)} of the labels are right; {report.answered:.0%} of the images get one, "
        f"{report.category:.0%} a category; {report.depth:.0%} of the depth kept"
    )


def _plain(result: PrecisionReached | RollUpFit) -> Any:  # noqa: ANN401  any value of JSON
    """Return a dataclass as JSON values; numbers that are not finite become null."""

    def plain(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return _number(value) if isinstance(value, float) else value

    return plain(asdict(result))


def _rerank_lines(fit: RerankFit) -> Iterator[str]:
    yield (
        f"rerank: weight {fit.weight:.3g}, margin {fit.margin.margin:.3g}, which asked about "
        f"{fit.margin.asked_share:.0%} of the images to fit on for {fit.margin.gain_share:.0%} of the gain"
    )
    if fit.outcome is not None:
        outcome = fit.outcome
        yield (
            f"rerank on {outcome.images} others: top-1 {outcome.top1_before:.3f} without, {outcome.top1_always:.3f} "
            f"asking always, {outcome.top1_auto:.3f} asking about {outcome.asked_share:.0%}"
        )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _show(interval: Interval) -> str:
    if not math.isfinite(interval.value):
        return "-"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _show_shares(assessment: Assessment) -> str:
    shares = (assessment.known_kept, assessment.unknown_found)
    shown = ["-" if share is None or not math.isfinite(share) else f"{share:.3f}" for share in shares]
    return "-" if assessment.known_kept is None else " / ".join(shown)


def write(
    calibration: Calibration, recognizer: Recognizer, *, settings: Path | None = None, figures: Path
) -> str | Path:
    """Write the settings file, and into one folder the figures as JSON and the two diagrams as PNG.

    Args:
        calibration: what to write.
        recognizer: the one that was calibrated.
        settings: the settings file; by default in the memory's directory, where a run finds it. Beside it goes a
            list of the images that were fitted on.
        figures: folder for `calibration.json`, `reliability.png` and `coverage.png`; created where it is missing.

    Returns:
        The settings file.

    Raises:
        OutputUnusable: the disk refuses.
    """
    from recognizer.calibration.diagrams import coverage_diagram, reliability_diagram

    figures.mkdir(parents=True, exist_ok=True)
    write_json(calibration, figures / "calibration.json")
    reliability_diagram(calibration.before, calibration.after, figures / "reliability.png")
    coverage_diagram(calibration.before, calibration.after, figures / "coverage.png")
    memory = recognizer.memory
    with calibration_file(memory, settings) as path:
        write_settings(calibration, memory, path)
    place = settings or calibration_place(memory)
    write_seen(place, calibration.seen)
    return place
