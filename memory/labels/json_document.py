"""JSON read strictly: no duplicate keys, no NaN, errors with their line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn, TypeAlias

from memory.errors import LabelError, printable
from memory.labels.rows import LabelFile, first_repeated

Json: TypeAlias = Any
"""A parsed JSON value, whose shape is checked where it is used."""

_STRING = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(rf"(?P<key>{_STRING})(?=\s*:)|(?P<string>{_STRING})|(?P<other>-?Infinity|NaN|[{{}}])|\n")


def looks_like_json(text: str) -> bool:
    """Say whether a text begins like a JSON object or list rather than a list of names."""
    return re.match(r'\s*(?:\{\s*["}]|\[\s*["{\[\]])', text) is not None


def parse_json(file: LabelFile, text: str, *, first_line: int = 1) -> Json:
    """Parse a JSON document.

    Args:
        file: the file it comes from, for messages.
        text: the document.
        first_line: 1-based line of the file on which the document begins.

    Raises:
        LabelError: not JSON, a key twice in one object, NaN or Infinity, or nested too deeply.
    """

    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs) and (double := first_repeated(key for key, _ in pairs)) is not None:
            raise file.error(
                f"the key {printable(double)!r} occurs twice in one object",
                "Merge the two entries; JSON keeps only one of them",
                line=_line_of_duplicate(text, double, first_line),
            )
        return value

    def refuse_constant(name: str) -> NoReturn:
        tokens = (line for line, _, token in _tokens(text) if token == name)
        raise file.error(f"{name} is not a JSON value", "Write a number or null", line=first_line + next(tokens, 0))

    try:
        return json.loads(text, object_pairs_hook=refuse_duplicates, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        raise file.error(
            f"this is not JSON: {error.msg}, at column {error.colno}",
            "Correct the JSON, or say with --format what kind of file it is",
            line=first_line + error.lineno - 1,
        ) from error
    except RecursionError as error:
        raise file.error("the JSON is nested too deeply", "Use fewer levels", line=first_line) from error
    except LabelError:
        raise
    except ValueError as error:
        raise file.error(
            f"a number cannot be read: {error}", "Write shorter numbers, or quote them", line=first_line
        ) from error


def _line_of_duplicate(text: str, key: str, first_line: int) -> int | None:
    """Find the line where a key comes for the second time in one object."""
    seen = [0]
    for line, kind, token in _tokens(text):
        if token == "{":
            seen.append(0)
        elif token == "}":
            seen.pop()
        elif kind == "key" and json.loads(token) == key:
            seen[-1] += 1
            if seen[-1] == 2:
                return first_line + line
    return None


def _tokens(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line (0-based), kind ("key" or "other") and text of the keys, braces and constants of a document."""
    line = 0
    for match in _TOKEN.finditer(text):
        if match.group() == "\n":
            line += 1
        elif match.lastgroup == "key":
            yield line, "key", match.group()
        elif match.lastgroup == "other":
            yield line, "other", match.group()
