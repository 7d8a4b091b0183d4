"""Data as scripts: a page that was opened from the disk may load no other data than classic scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Nothing in a script may end it or begin a tag, should somebody paste it into a page; the two line ends of Unicode end
# a text in older engines.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def script_json(value: object) -> str:
    """Write a value as JSON that is safe in a script.

    Raises:
        ValueError: a number is not finite.
        TypeError: the value is none of JSON.
    """
    return escaped(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def escaped(text: str) -> str:
    """Escape in a JSON text what could end a script; only texts in it can hold such characters."""
    for character, escape in _ESCAPES.items():  # three times as fast as `translate`, for hardly any text has one
        text = text.replace(character, escape)
    return text


def write_call(path: Path, function: str, *arguments: Any) -> None:  # noqa: ANN401  JSON values
    """Write a script that hands values to a function of the page; lone surrogates become ``?``."""
    write_text(path, f"{function}({','.join(map(script_json, arguments))});\n")


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8; lone surrogates, which it cannot hold, become ``?``."""
    path.write_bytes(text.encode("utf-8", "replace"))
