"""Glob patterns over relative paths, with ``**`` for any number of folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from recognizer.images.errors import ImageInputError
from recognizer.images.key import display_key

_MAGIC = re.compile(rb"[*?\[]")
_TOKEN = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class WalkRule:
    """What a pattern needs of the walk below its folder.

    Attributes:
        any_suffix: the pattern's last part holds a dot, so it decides on the suffix itself.
        hidden: some part begins with a dot.
        depth: levels of folders to look into; None where the pattern holds ``**``.
    """

    any_suffix: bool
    hidden: bool
    depth: int | None


def is_pattern(path: bytes) -> bool:
    """Tell whether a path holds ``*``, ``?`` or ``[``."""
    return _MAGIC.search(path) is not None


def split_pattern(pattern: bytes) -> tuple[bytes, Callable[[bytes], bool], WalkRule]:
    """Split a glob pattern into the folder to walk and the test of what is found there.

    ``*`` and ``?`` stay within one part of the path, ``**`` as a whole part stands for any number of folders, and a
    name that begins with a dot is matched only by a part that does.

    Args:
        pattern: a path with at least one of ``*``, ``?`` and ``[``.

    Returns:
        The leading folder without wildcards (empty for the current one), a test for paths relative to it, and what
        the walk has to look at.

    Raises:
        ImageInputError: a ``[...]`` that is no set of characters.
    """
    parts = pattern.split(b"/")
    first = next(i for i, part in enumerate(parts) if is_pattern(part))
    folder = b"/".join(parts[:first]) or (b"/" if first else b"")
    below = [os.fsdecode(part) for part in parts[first:] if part]
    if below[-1] == "**":
        below.append("*")
    try:
        matcher = re.compile("".join(map(_translate, below)).removesuffix("/"))
    except re.error as error:
        raise ImageInputError(f"{display_key(pattern)}: this glob cannot be understood: {error}") from None
    rule = WalkRule(
        any_suffix="." in below[-1],
        hidden=any(part.startswith(".") for part in below),
        depth=None if "**" in below else len(below),
    )
    return folder, lambda path: matcher.fullmatch(os.fsdecode(path)) is not None, rule


def _translate(part: str) -> str:
    if part == "**":
        return r"(?:[^/.][^/]*/)*"
    guard = "" if part.startswith(".") else r"(?!\.)"
    return guard + "".join(map(_translate_token, _TOKEN.findall(part))) + "/"


def _translate_token(token: str) -> str:
    if token.startswith("*"):
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if token.startswith("[") and len(token) > 1:
        members = token[1:-1]
        negated = members.startswith("!")
        escaped = re.sub(r"([\\\[\]&~|^])", r"\\\1", members[negated:])
        return f"(?!/)[{'^' if negated else ''}{escaped}]"
    return re.escape(token)
