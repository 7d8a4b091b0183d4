"""The base class of all errors that are meant for the user; its subclasses stand beside the code that raises them.

The command line prints such an error as one sentence, without a traceback. An `ImageError` becomes a row instead and
never ends a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What pydantic says of the commonest problems, in the words of this project.
_REASONS = {
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "float_parsing": "give a number",
    "finite_number": "give a finite number",
    "bool_type": "give true or false",
    "bool_parsing": "give true or false",
    "string_type": "give a text",
    "literal_error": "give {expected}",
    "greater_than": "give more than {gt:.15g}",
    "greater_than_equal": "give at least {ge:.15g}",
    "less_than": "give less than {lt:.15g}",
    "less_than_equal": "give at most {le:.15g}",
    "too_short": "give a list of at least {min_length}",
    "too_long": "give a list of at most {max_length}",
    "model_type": "give its settings by name",
}


class RecognizerError(Exception):
    """An error whose message tells the user what is wrong, with which value, and what to do."""


def reason_of(problem: Mapping[str, Any]) -> str:
    """Return what to do about one of the errors of a pydantic `ValidationError`, without pydantic's own prefix."""
    reason = _REASONS.get(problem["type"])
    if reason is None or ("ctx" not in problem and "{" in reason):
        return str(problem["msg"]).removeprefix("Value error, ")
    return reason.format(**problem.get("ctx", {}))
