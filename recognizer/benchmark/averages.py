"""Averages over data sets, as the papers print them in the last column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recognizer.benchmark.table import BenchmarkRow


def averages(rows: Sequence[BenchmarkRow]) -> Iterator[BenchmarkRow]:
    """Average what was measured on every data set, seed by seed.

    A figure without a spread is the same for each seed. Of one data set there is no average.

    Args:
        rows: of all data sets.
    """
    sets = len({row.data for row in rows})
    figures: dict[tuple[str, str], list[BenchmarkRow]] = {}
    for row in rows:
        figures.setdefault((row.what, row.metric), []).append(row)
    for (what, metric), own in figures.items():
        if sets > 1 and len(own) == sets and all(row.values for row in own):
            seeds = max(len(row.values) for row in own)
            values = [[row.values[seed if len(row.values) > 1 else 0] for row in own] for seed in range(seeds)]
            means = [float(np.mean(each)) for each in values]
            yield BenchmarkRow(f"average of {sets}", what, metric, means, sum(row.n for row in own))
