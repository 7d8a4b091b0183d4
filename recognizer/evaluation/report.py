"""An evaluation as lines of text, as JSON and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from memory.wording import counted
from recognizer.console import table
from recognizer.evaluation.evaluate import Evaluation
from recognizer.evaluation.labelled import left_out_sentence
from recognizer.evaluation.metrics import Interval
from recognizer.evaluation.reranked import RerankEvaluation
from recognizer.hierarchy.climbs import RollUpEvaluation
from recognizer.hierarchy.rule import in_words
from recognizer.results.tables import neutralise

MOST_CHANGES = 10


def print_lines(evaluation: Evaluation) -> Iterator[str]:
    """Yield the table, the most frequent confusions and what was left out, as text."""
    rows = [
        [name, _show(a.top1), _show(a.top5), _show(a.mean_per_class_recall), f"{a.median_rank:g}"]
        + ([f"{change.helped:.0%}, {change.hurt:.0%}"] if (change := evaluation.changes.get(name)) else [""])
        for name, a in evaluation.rows.items()
    ]
    headers = ["score", "top-1", "top-5", "mean per-class recall", "median rank", "categories helped, hurt"]
    yield table(headers, rows)
    yield ""
    yield f"{counted(evaluation.images, 'image')}; 95 % bootstrap intervals in brackets"
    if evaluation.rerank is not None:
        yield from _rerank_lines(evaluation.rerank)
    if evaluation.roll_up is not None:
        yield from _roll_up_lines(evaluation.roll_up)
    if evaluation.confusions:
        yield ""
        yield table(["truth", "taken for", "images"], [[t, p, str(n)] for t, p, n in evaluation.confusions])
    for code, number in evaluation.failed.items():
        yield f"{counted(number, 'image')} could not be decoded ({code})"
    if evaluation.unmatched:
        yield left_out_sentence(evaluation.unmatched)


def _roll_up_lines(roll_up: RollUpEvaluation) -> Iterator[str]:
    figures = roll_up.figures
    yield ""
    yield (
        f"rolled up ({in_words(roll_up.thresholds)}): {_show(figures.accuracy)} of the answers are right; "
        f"{figures.answered:.0%} of the images get one, {figures.category:.0%} a category; {figures.depth:.0%} of the "
        "depth kept"
    )
    rows = [
        ["category" if level == 0 else f"{level} above", str(count), f"{accuracy:.3f}"]
        for level, (count, accuracy) in enumerate(figures.levels)
        if count
    ]
    if rows:
        yield table(["level", "answers", "accuracy"], rows)
    for precision, coverage in roll_up.coverage.items():
        yield (
            f"answered with a precision of {precision:.0%}: categories {_show(coverage.category)}, "
            f"rolled up {_show(coverage.rolled_up)}"
        )


def _rerank_lines(rerank: RerankEvaluation) -> Iterator[str]:
    share = "nothing to gain" if rerank.ceiling_share is None else f"{rerank.ceiling_share:.0%} of the oracle's gain"
    yield f"rerank: {share}; {rerank.cost.summary()}"
    if rerank.changes:
        changed = [
            [c.category, str(c.images), f"{c.before:.2f}", f"{c.after:.2f}"] for c in rerank.changes[:MOST_CHANGES]
        ]
        yield ""
        yield table(["category", "images", "top-1 before", "after rerank"], changed)


def write_json(evaluation: Evaluation, path: Path) -> None:
    """Write the table as JSON: `top1`, `top5`, `mean_per_class_recall` with intervals, and `median_rank` per row."""
    rows = {}
    for name, accuracy in evaluation.rows.items():
        row: dict[str, object] = {"median_rank": accuracy.median_rank}
        for figure in ("top1", "top5", "mean_per_class_recall"):
            interval: Interval = getattr(accuracy, figure)
            row[figure] = interval.value
            row[f"{figure}_interval"] = [interval.low, interval.high]
        if name in evaluation.changes:
            row |= asdict(evaluation.changes[name])
        rows[name] = row
    content = {
        "rows": rows,
        "images": evaluation.images,
        "failed": dict(evaluation.failed),
        "unmatched": dict(evaluation.unmatched),
        "confusions": [{"truth": t, "predicted": p, "images": n} for t, p, n in evaluation.confusions],
    }
    if evaluation.rerank is not None:
        content["rerank"] = {
            "ceiling_share": evaluation.rerank.ceiling_share,
            "changes": [asdict(change) for change in evaluation.rerank.changes],
            "cost": evaluation.rerank.cost.to_dict(),
        }
    if evaluation.roll_up is not None:
        content["roll_up"] = _roll_up_content(evaluation.roll_up)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _roll_up_content(roll_up: RollUpEvaluation) -> dict[str, object]:
    figures = roll_up.figures
    accuracy = figures.accuracy
    return {
        "thresholds": list(roll_up.thresholds),
        "accuracy": accuracy.value if figures.answered else None,
        "accuracy_interval": [accuracy.low, accuracy.high] if figures.answered else None,
        "answered": figures.answered,
        "category": figures.category,
        "depth": figures.depth,
        "levels": [{"answers": count, "accuracy": share if count else None} for count, share in figures.levels],
        "coverage": {
            f"{precision:g}": {
                "category": coverage.category.value,
                "category_interval": [coverage.category.low, coverage.category.high],
                "rolled_up": coverage.rolled_up.value,
                "rolled_up_interval": [coverage.rolled_up.low, coverage.rolled_up.high],
            }
            for precision, coverage in roll_up.coverage.items()
        },
    }


def write_per_class(evaluation: Evaluation, path: Path) -> None:
    """Write category, images, top1 and top5 of every category as CSV; no cell is read as a formula."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["category", "images", "top1", "top5"])
        writer.writeheader()
        writer.writerows(asdict(row) | {"category": neutralise(row.category)} for row in evaluation.per_class)


def _show(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
