"""How common each category is where the images come from: a place, a season, a shop's assortment.

Probabilities are multiplied: with prior p_c and mean prior m, the score of `recognizer.score` has one more summand,
T log(p_c / m), so that confidence = softmax(score / T) is proportional to exp(s / T) p_c. Only a user says a prior; a
memory carries none, and none is guessed from the images: a guessed one that is wrong costs more than a right one gains
(`tests/benchmarks/priors.py`).
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory import Category
from memory.errors import printable
from memory.labels.cells import delimiter_by_count, delimiter_by_titles, read_titles, split_rows, without_empty_end
from memory.labels.rows import LabelFile, read_text
from recognizer.errors import RecognizerError
from recognizer.selection import rows_by_name, unknown_names

_COLUMNS = ("name", "group", "prior")


class PriorError(RecognizerError):
    """A file of priors cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """How common the categories of a memory are.

    Attributes:
        logarithms: (C,) float64 log(prior / mean prior), in the memory's row order; 0 for a category without a row,
            -inf for one that is excluded.
        sha256: hex digest, by which a resumed run sees that it is the same prior.
    """

    logarithms: NDArray[np.float64]
    sha256: str

    def competing(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Return which of some categories, or of all, have a prior above 0."""
        return np.isfinite(self.logarithms if rows is None else self.logarithms[rows])


def read_prior(path: Path, categories: Sequence[Category], *, warn: Callable[[str], object]) -> Prior:
    """Read the priors of a memory's categories.

    Args:
        path: CSV or TSV with the columns `name` and `prior`, and perhaps `group`. A prior is a number of at least 0 on
            any scale, such as a count or a share. 0 excludes a category and does not count in the mean; a category
            without a row has the mean of the others. A name is that of a category, or an alias, in any group if the
            row has none.
        categories: of the memory.
        warn: called with one sentence about names that are not in the memory; their rows are left out.

    Raises:
        PriorError: a column is missing, a row cannot be read, a prior is not a number of at least 0, a category has two
            priors, no row names a category, or the priors sum to 0.
        LabelError: the file cannot be read as text.
    """
    by_name = rows_by_name(categories)
    line_of: dict[int, int] = {}
    priors = np.full(len(categories), np.nan)
    unknown: list[str] = []
    for line, name, group, value in _rows(path):
        rows = [row for row in sorted(by_name.get(name, ())) if group in ("", categories[row].group)]
        if not rows:
            unknown.append(f"{name} ({group})" if group else name)
        for row in rows:
            if row in line_of:
                raise _error(path, line, f"{printable(name)!r} has a prior already, on line {line_of[row]}")
            line_of[row], priors[row] = line, value
    if not line_of:
        reason = f"no row names a category: {unknown_names(unknown, by_name)}" if unknown else "there are no rows"
        raise PriorError(f"{path}: {reason}")
    if unknown:
        warn(f"{path}: left out: {unknown_names(unknown, by_name)}")
    above_0 = priors[priors > 0]
    if not len(above_0) and not np.isnan(priors).any():
        raise PriorError(
            f"{path}: the priors sum to 0, so no category can be the answer; give one above 0, or leave categories out "
            "with --without"
        )
    with np.errstate(divide="ignore"):
        # Where only exclusions are given, the others are equally common.
        mean = above_0.mean() if len(above_0) else 1.0
        logarithms = np.where(np.isnan(priors), 0.0, np.log(priors / mean))
    entries = "".join(f"{category.id} {value!r}\n" for category, value in zip(categories, priors.tolist(), strict=True))
    return Prior(logarithms, hashlib.sha256(entries.encode()).hexdigest())


def _rows(path: Path) -> list[tuple[int, str, str, float]]:
    """Return line, name, group and prior of each row."""
    file = LabelFile(path, read_text(path))
    lines = split_rows(file, delimiter_by_titles(file, _COLUMNS) or delimiter_by_count(file))
    line, header = next(lines, (1, list[str]()))
    if isinstance(header, csv.Error):
        raise _error(path, line, f"the header cannot be read: {header}")
    titles = read_titles(header)
    lower = [title.lower() for title in titles]
    for title in _COLUMNS:
        if lower.count(title) > 1 or (title != "group" and title not in lower):
            has = ", ".join(repr(printable(each)) for each in titles)
            raise _error(path, line, f"needs the columns name and prior, and may have group, each once; it has {has}")
    found = []
    for line, row in lines:
        if isinstance(row, csv.Error):
            raise _error(path, line, f"the row cannot be read: {row}")
        cells = [cell.strip() for cell in without_empty_end(row, titles)]
        if not any(cells):
            continue
        if len(cells) != len(titles):
            raise _error(
                path, line, f"{len(cells)} cells for {len(titles)} columns; put quotes around a cell with a delimiter"
            )
        named = dict(zip(lower, cells, strict=True))
        if not named["name"]:
            raise _error(path, line, "the row has no name")
        found.append((line, named["name"], named.get("group", ""), _number(path, line, named["prior"])))
    return found


def _number(path: Path, line: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise _error(path, line, f"the prior {printable(cell)!r} is not a number of at least 0")
    return value


def _error(path: Path, line: int, message: str) -> PriorError:
    return PriorError(f"{path}, line {line}: {message}")
