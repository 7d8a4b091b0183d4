"""Find the image files below a folder, and match their paths against glob patterns.

Paths are bytes throughout, because a file name may be in any encoding.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from recognizer.images.errors import ImageInputError
from recognizer.images.key import display_key
from recognizer.images.left_out import DEAD_LINK, HIDDEN_FILE, HIDDEN_FOLDER, SPECIAL_FILE, why_left_out


@dataclass(frozen=True, slots=True)
class ListingProblem:
    """Something that was left out of a listing.

    Attributes:
        path: the path as text.
        reason: why it was left out.
    """

    path: str
    reason: str


def walk_files(
    folder: bytes,
    *,
    problems: list[ListingProblem],
    left_out: dict[bytes, str],
    matches: Callable[[bytes], bool] | None = None,
    any_suffix: bool = False,
    hidden: bool = False,
    depth: int | None = None,
) -> Iterator[bytes]:
    """Find the image files below a folder, each once, in no particular order.

    Links to regular files are followed. Links to folders are not, so a loop of links cannot trap the walk.

    Args:
        folder: where to start; may itself be a link.
        problems: receives the folders that could not be read and the links that were not followed.
        left_out: receives the files that are not images, by path, and why.
        matches: which relative paths are asked for; None: all. Others are not counted as left out.
        any_suffix: include every regular file, whatever it is.
        hidden: include names that begin with a dot.
        depth: how many levels of folders to search; 1 is the folder alone, None is unlimited.

    Yields:
        Paths relative to the folder, with forward slashes.
    """
    pending: list[tuple[bytes, int]] = [(b"", 1)]
    while pending:
        prefix, level = pending.pop()
        where = os.path.join(folder, prefix)
        try:
            entries = os.scandir(where)
        except OSError as error:
            problems.append(ListingProblem(display_key(where), f"the folder cannot be read: {error.strerror}"))
            continue
        with entries:
            for entry in entries:
                name = entry.name
                if name.startswith(b".") and not hidden:
                    if matches is None:
                        left_out[entry.path] = HIDDEN_FOLDER if entry.is_dir(follow_symlinks=False) else HIDDEN_FILE
                elif entry.is_dir(follow_symlinks=False):
                    if depth is None or level < depth:
                        pending.append((prefix + name + b"/", level + 1))
                elif not entry.is_file(follow_symlinks=False) and _is_folder(entry):
                    problems.append(ListingProblem(display_key(entry.path), "a link to a folder is not followed"))
                elif matches is None or matches(prefix + name):
                    reason = _why_not_regular(entry)
                    if reason is None and not any_suffix:
                        reason = why_left_out(os.path.join(where, name))
                    if reason is None:
                        yield prefix + name
                    else:
                        left_out[entry.path] = reason


def _why_not_regular(entry: os.DirEntry[bytes]) -> str | None:
    try:
        is_regular = entry.is_file(follow_symlinks=False) or stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return DEAD_LINK
    return None if is_regular else SPECIAL_FILE


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


_WILDCARD = re.compile(rb"[*?\[]")
_TOKEN = re.compile(r"\*+|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class WalkRule:
    """The arguments of `walk_files` that a pattern needs.

    Attributes:
        any_suffix: the last part of the pattern contains a dot, so the pattern itself decides on the suffix.
        hidden: some part begins with a dot.
        depth: levels of folders to search; None where the pattern contains ``**``.
    """

    any_suffix: bool
    hidden: bool
    depth: int | None


def is_pattern(path: bytes) -> bool:
    """Tell whether a path contains ``*``, ``?`` or ``[``."""
    return _WILDCARD.search(path) is not None


def split_pattern(pattern: bytes) -> tuple[bytes, Callable[[bytes], bool], WalkRule]:
    """Split a glob pattern into the folder to walk and a test for the paths below it.

    ``*`` and ``?`` match within one part of the path, and ``**`` as a whole part matches any number of folders. A name
    that begins with a dot is matched only by a part that begins with a dot. The `glob` module is not used because it
    follows links to folders and is silent about folders that it cannot read.

    Args:
        pattern: a path with at least one of ``*``, ``?`` and ``[``.

    Returns:
        The leading folder without wildcards (empty for the current one), a test for paths relative to it, and how to
        walk it.

    Raises:
        ImageInputError: ``[...]`` is not a valid set of characters.
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
        raise ImageInputError(f"{display_key(pattern)}: not a valid glob: {error}") from None
    rule = WalkRule(
        any_suffix="." in below[-1],
        hidden=any(part.startswith(".") for part in below),
        depth=None if "**" in below else len(below),
    )
    return folder, lambda path: matcher.fullmatch(os.fsdecode(path)) is not None, rule


def _translate(part: str) -> str:
    """Translate one part of a pattern to a regular expression, with the slash after it."""
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
