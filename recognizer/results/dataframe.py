"""Result rows as a table of pandas."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from recognizer.results.errors import ResultsError
from recognizer.results.row import Row
from recognizer.results.tables import arrow_table

if TYPE_CHECKING:
    from pandas import DataFrame


def to_dataframe(rows: Iterable[Row]) -> DataFrame:
    """Make a table with one line per image and rank, with the columns of the Parquet output.

    An image that could not be recognised has one line, with `error_code` and `error_reason`.

    Args:
        rows: of `Recognizer.recognize` or `Recognizer.recognize_folder`.

    Raises:
        ResultsError: pandas is not installed.
    """
    if find_spec("pandas") is None:
        raise ResultsError("to_dataframe needs pandas; install it with: pip install pandas")
    return arrow_table(row.to_dict() for row in rows).to_pandas()
