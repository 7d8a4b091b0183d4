"""Which rows of earlier runs are carried over: those whose image is listed and is still the same."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from memory.wording import counted
from recognizer.results.journal import JournalContent, JournalRow
from recognizer.results.ledger import CurrentStamp

_SHOWN = 3  # keys that a note names; more would hide the rest


@dataclass(frozen=True, slots=True)
class Carried:
    """The rows that are carried over, and the images that are to be recognised.

    Attributes:
        todo: numbers of the images to recognise, ascending.
        errors: of each row that is carried over its error code, None for an image that was recognised.
        missing: keys of kept rows whose image is not listed, sorted; they follow all others.
        in_order: whether the journal, once the rows of `todo` are appended, holds every row in its place.
    """

    todo: Sequence[int]
    errors: Sequence[str | None]
    missing: Sequence[str]
    in_order: bool


def carry_over(
    keys: Sequence[str],
    content: JournalContent,
    *,
    retry_errors: bool,
    keep_missing: bool,
    current_stamp: CurrentStamp | None,
    warn: Callable[[str], None],
) -> Carried:
    """Compare the rows of earlier runs with the images of this one.

    Args:
        keys: of the images of this run, in order.
        content: the rows of earlier runs.
        retry_errors: drop the rows of failed images.
        keep_missing: keep the rows of images that are not listed, and of listed ones whose file is gone.
        current_stamp: finds the stamps of the images as they are now; None: they are taken to be the same.
        warn: called with a sentence about rows that are dropped, or kept without their image.
    """
    unlisted = dict(content.rows)
    todo = array("Q")
    kept: list[JournalRow] = []
    changed: list[str] = []
    for number, key in enumerate(keys):
        row = unlisted.pop(key, None)
        if row is not None and current_stamp is not None and _is_stale(row, number, current_stamp, keep_missing):
            changed.append(key)
            row = None
        if row is None or (retry_errors and row.entry.error is not None):
            todo.append(number)
        else:
            kept.append(row)
    if changed:
        warn(f"{_images(changed)} changed since the earlier run; done again")
    if unlisted:
        fate = "kept at the end" if keep_missing else "dropped (--keep-missing keeps them)"
        warn(f"no longer among the images: {_images(unlisted)}; earlier rows are {fate}")
    missing = sorted(unlisted) if keep_missing else []
    appends_at_end = not todo or (todo[0] == len(kept) and not missing)
    kept.extend(unlisted[key] for key in missing)
    in_order = appends_at_end and _fill(kept, content.end)
    return Carried(todo, [row.entry.error for row in kept], missing, in_order)


def _is_stale(row: JournalRow, number: int, current_stamp: CurrentStamp, keep_missing: bool) -> bool:
    stamp = row.entry.image
    if stamp is None:  # a ledger that was made from the rows
        return False
    now = current_stamp(number, stamp)
    return not stamp.is_same(now) and (now.exists or not keep_missing)


def _fill(rows: Iterable[JournalRow], end: int) -> bool:
    """Tell whether the rows follow each other in a file, without a gap, up to its end."""
    position = 0
    for row in rows:
        if row.start != position:
            return False
        position = row.end
    return position == end


def _images(keys: Iterable[str]) -> str:
    """Count images and name the first ones."""
    keys = list(keys)
    shown = ", ".join(islice(keys, _SHOWN)) + (", ..." if len(keys) > _SHOWN else "")
    return f"{counted(len(keys), 'image')} ({shown})"
