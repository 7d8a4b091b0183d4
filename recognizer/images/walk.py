"""Find the image files below a folder, and match their paths against glob patterns.

Paths are bytes throughout, because a file name may be in any encoding.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from recognizer.images.errors import ImageInputError
from recognizer.images.key import display_key
from recognizer.images.left_out import (
    DEAD_LINK,
    EXCLUDED_FILE,
    EXCLUDED_FOLDER,
    HIDDEN_FILE,
    HIDDEN_FOLDER,
    MACOS_FILE,
    SPECIAL_FILE,
    SYSTEM_FOLDERS,
    why_left_out,
)

Matcher = Callable[[bytes], bool]
"""Tells whether a path, relative to the folder of a walk, is meant."""


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
    matches: Matcher | None = None,
    excluded: Matcher | None = None,
    any_suffix: bool = False,
    hidden: bool = False,
    depth: int | None = None,
) -> Iterator[bytes]:
    """Find the image files below a folder, each once, in no particular order.

    The files that an operating system keeps among images (`SYSTEM_FOLDERS`, ``._*``) are left out.
    Links to regular files are followed. Links to folders are not, so a loop of links cannot trap the walk.

    Args:
        folder: where to start; may itself be a link.
        problems: receives the folders that could not be read and the links that were not followed.
        left_out: receives the files that are not images, by path, and why.
        matches: which relative paths are asked for; None: all. Others are not counted as left out.
        excluded: which files and folders are not wanted; None: none. They are counted as left out, a folder as one.
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
                is_folder = entry.is_dir(follow_symlinks=False)
                reason = _why_unwanted(prefix + name, name, is_folder, excluded)
                if reason is not None:
                    if is_folder or matches is None or matches(prefix + name):
                        left_out[entry.path] = reason
                elif name.startswith(b".") and not hidden:
                    if matches is None:
                        left_out[entry.path] = HIDDEN_FOLDER if is_folder else HIDDEN_FILE
                elif is_folder:
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


def _why_unwanted(path: bytes, name: bytes, is_folder: bool, excluded: Matcher | None) -> str | None:
    if excluded is not None and excluded(path):
        return EXCLUDED_FOLDER if is_folder else EXCLUDED_FILE
    if is_folder:
        return SYSTEM_FOLDERS.get(name)
    return MACOS_FILE if name.startswith(b"._") else None


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


def split_pattern(pattern: bytes) -> tuple[bytes, Matcher, WalkRule]:
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
    matcher = _compile(pattern, _translate_parts(below))
    rule = WalkRule(
        any_suffix="." in below[-1],
        hidden=any(part.startswith(".") for part in below),
        depth=None if "**" in below else len(below),
    )
    return folder, lambda path: matcher.fullmatch(os.fsdecode(path)) is not None, rule


def exclusion(patterns: Sequence[str | bytes]) -> Matcher | None:
    """Make a test for paths that are not wanted.

    Args:
        patterns: globs as for `split_pattern`. One without a slash is compared with the name of each file and folder,
            another one with the whole path.

    Raises:
        ImageInputError: ``[...]`` is not a valid set of characters.
    """
    matchers = []
    for pattern in map(os.fsencode, patterns):
        parts = [os.fsdecode(part) for part in pattern.split(b"/") if part not in (b"", b".")]
        anywhere = "" if b"/" in pattern.rstrip(b"/") else "(?:.*/)?"
        matchers.append(_compile(pattern, anywhere + _translate_parts(parts)))
    if not matchers:
        return None
    return lambda path: any(matcher.fullmatch(os.fsdecode(path)) for matcher in matchers)


def _compile(pattern: bytes, regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex, re.DOTALL)
    except re.error as error:
        raise ImageInputError(f"{display_key(pattern)}: not a valid glob: {error}") from None


def _translate_parts(parts: Sequence[str]) -> str:
    every = [*parts, "*"] if parts[-1:] == ["**"] else parts
    return "".join(map(_translate, every)).removesuffix("/")


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
