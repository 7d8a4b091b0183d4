"""Reading what an earlier run left behind: which batches are whole, and where they lie."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recognizer.results.errors import ResumeRefused

REMEDY = "use --overwrite to start anew, or another --output"
_AFTER_PATH = re.compile(rb'(?:,"path_b64":"[A-Za-z0-9+/=]*")?,"status":"(ok|error)"[,}]')


@dataclass(frozen=True, slots=True)
class BatchSpan:
    """Where a batch lies in a journal.

    Attributes:
        start: offset of its first byte.
        end: offset after its last byte.
        ok: rows with status ok.
        errors: rows with status error, by code.
    """

    start: int
    end: int
    ok: int
    errors: Counter[str] = field(default_factory=Counter)


def scan_journal(path: Path, *, keys: Sequence[str], batch_size: int) -> list[BatchSpan]:
    """Find the batches of a journal that are whole.

    What follows the last whole batch (a torn line, rows of a batch that was being written, zeros that a power failure
    left) is not part of the answer; it is to be cut off.

    Args:
        path: the journal; a missing one has no batches.
        keys: keys of all images of the run, in order.
        batch_size: images in a batch; the last batch may have fewer.

    Returns:
        One span a batch, from the start of the file without a gap.

    Raises:
        ResumeRefused: a row is not that of the image expected there, or there are more rows than images.
    """
    spans: list[BatchSpan] = []
    if not path.exists():
        return spans
    start = position = rows = ok = 0
    errors: Counter[str] = Counter()
    with open(path, "rb") as stream:
        for line in stream:
            if not line.endswith(b"}\n") or b"\0" in line:
                _require_torn(path, line, rows)
                break
            code = _error_code(path, line, rows, keys)
            rows += 1
            position += len(line)
            ok += code is None
            errors.update([code] if code is not None else [])
            if rows % batch_size == 0 or rows == len(keys):
                spans.append(BatchSpan(start, position, ok, errors))
                start, ok, errors = position, 0, Counter()
    return spans


def _require_torn(path: Path, line: bytes, rows: int) -> None:
    """Refuse a line that no interrupted run leaves behind."""
    if line.endswith(b"\n") and b"\0" not in line:
        raise ResumeRefused(f"{path}, line {rows + 1}: this is not a result row; {REMEDY}")


def _error_code(path: Path, line: bytes, row: int, keys: Sequence[str]) -> str | None:
    """The error code of a row, None for status ok; refuses a row that is not that of its image."""
    if row >= len(keys):
        raise ResumeRefused(f"{path} has more rows than the {len(keys)} images of this run; {REMEDY}")
    head = b'{"path":' + json.dumps(keys[row], ensure_ascii=False).encode("utf-8", "replace")
    status = _AFTER_PATH.match(line, len(head)) if line.startswith(head) else None
    if status is None:
        raise ResumeRefused(
            f"{path}, line {row + 1}: expected the row of {keys[row]!r}, found {_found_path(line)}; "
            f"the images differ from those of the earlier run: {REMEDY}"
        )
    return None if status[1] == b"ok" else str(json.loads(line)["error"]["code"])


def _found_path(line: bytes) -> str:
    try:
        return repr(json.loads(line)["path"])
    except (ValueError, KeyError, TypeError):
        return "a line that is not a result row"


def count_rows(spans: Sequence[BatchSpan]) -> tuple[int, Counter[str]]:
    """Sum the rows of batches: those with status ok, and those with status error by code."""
    return sum(span.ok for span in spans), sum((span.errors for span in spans), Counter[str]())
