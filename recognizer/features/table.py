"""The LanceDB table of the features of one encoder, found by the hash of the file.

Rows are only appended; of two with one hash the later one counts. Lance calls no fsync and keeps no checksums, so every
row is checked when it is read. A lost table costs time and nothing else: a damaged one is moved aside and begun anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from memory.store import LanceObject, is_panic
from recognizer.features.places import TablePlace
from recognizer.features.stored_image import Stored, from_table, make_schema, to_table

# Rows are written when so many wait, or the first has waited so long: few and large fragments, and a killed run loses
# a minute. With 200 kB an image 50 MB wait.
FLUSH_ROWS = 256
FLUSH_SECONDS = 60.0


class FeatureTable:
    """The rows of one encoder.

    Args:
        place: where the table is.
        dim: D of the encoder.
        writable: whether rows may be added, and a damaged table moved.
        with_failures: whether stored failures are found.
        warn: called with one sentence when the table turns out to be damaged, or cannot be written.
    """

    def __init__(
        self, place: TablePlace, dim: int, *, writable: bool, with_failures: bool, warn: Callable[[str], None]
    ) -> None:
        """Open the table, if there is one, and read which files it has."""
        self._place = place
        self._dim = dim
        self._writable = writable
        self._warn = warn
        self._table: LanceObject | None = None
        self._offsets: dict[str, int] = {}
        self._waiting: dict[str, Stored] = {}
        self._waiting_since = 0.0
        self._said: set[str] = set()
        with self._moved_if_damaged():
            self._open(with_failures)

    @property
    def writable(self) -> bool:
        """Whether rows that are added are stored."""
        return self._writable

    def __len__(self) -> int:
        """Number of images that `read` can find."""
        return len(self._offsets)

    def __contains__(self, sha256: str | None) -> bool:
        """Say whether a file has a row."""
        return sha256 in self._offsets

    def read(self, hashes: Sequence[str]) -> dict[str, Stored]:
        """Return the stored rows among these files, by hash; damaged ones are left out."""
        wanted = {sha256: self._offsets[sha256] for sha256 in hashes if sha256 in self._offsets}
        if not wanted or self._table is None:
            return {}
        rows: dict[str, Stored] = {}
        with self._moved_if_damaged():
            taken = self._table.take_offsets(sorted(wanted.values())).to_arrow()
            rows = {row.sha256: row for row in from_table(taken) if row.sha256 in wanted}
        damaged = wanted.keys() - rows.keys()
        for sha256 in damaged:
            self._offsets.pop(sha256, None)
        if damaged:
            self._say("rows", f"some features in {self._place} are damaged; their images are encoded again")
        return rows

    def rows(self, hashes: Iterable[str]) -> Iterator[Stored]:
        """Yield the stored rows among these files, each once, in stored order."""
        wanted = sorted((self._offsets[sha256], sha256) for sha256 in set(hashes) if sha256 in self._offsets)
        for start in range(0, len(wanted), FLUSH_ROWS):
            yield from self.read([sha256 for _, sha256 in wanted[start : start + FLUSH_ROWS]]).values()

    def add(self, rows: Sequence[Stored]) -> None:
        """Store rows; those that the table has already are dropped."""
        if not self._writable:
            return
        if not self._waiting:
            self._waiting_since = time.monotonic()
        self._waiting |= {row.sha256: row for row in rows if row.sha256 not in self._offsets}
        if len(self._waiting) >= FLUSH_ROWS or time.monotonic() - self._waiting_since > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait; if the disk refuses, no more are stored."""
        if not self._waiting:
            return
        before = self._place.files()
        rows = to_table(list(self._waiting.values()), self._dim)
        try:
            if self._table is None:
                self._table = self._place.create(rows)
            else:
                self._table.add(rows)
        except BaseException as error:
            self._place.delete_others(before)
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            self._writable = False
            failure = self._place.failure("writing features", error)
            self._warn(f"features are not stored any more: {failure}")
        else:
            start = int(self._table.count_rows()) - len(rows)
            self._offsets |= {sha256: start + place for place, sha256 in enumerate(self._waiting)}
        self._waiting.clear()

    def _open(self, with_failures: bool) -> None:
        table = self._place.open()
        if table is None:
            return
        if table.schema != make_schema(self._dim):
            raise ValueError("its columns are others")
        found = table.search().select(["sha256", "code"]).limit(None).to_arrow()
        failed = [not with_failures and code is not None for code in found["code"].to_pylist()]
        self._offsets = {
            sha256: offset
            for offset, (sha256, left_out) in enumerate(zip(found["sha256"].to_pylist(), failed, strict=True))
            if not left_out
        }
        self._table = table

    @contextmanager
    def _moved_if_damaged(self) -> Iterator[None]:
        """Catch what Lance raises about broken files: move them aside, or read nothing more from them."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            self._table = None
            self._offsets = {}
            shown = str(self._place)
            if not self._writable:
                self._say("table", f"the features in {shown} cannot be read, so images are encoded again")
                return
            try:
                aside = self._place.set_aside()
            except OSError as refusal:
                self._writable = False
                self._say("table", f"the features in {shown} are damaged and cannot be moved away: {refusal}")
                return
            if aside is None:
                self._writable = False
                reason = self._place.failure("reading features", error)
                self._say("table", f"images are encoded again and their features are not stored: {reason}")
                return
            self._say(
                "table",
                f"the features in {shown} are damaged, so images are encoded again and stored anew; the damaged table "
                f"is now {aside}, which you can delete",
            )

    def _say(self, what: str, sentence: str) -> None:
        """Warn, once of each thing."""
        if what not in self._said:
            self._said.add(what)
            self._warn(sentence)


def count_images(place: TablePlace) -> int:
    """Count the images in a table; 0 where it cannot be read."""
    try:
        table = place.open()
        return 0 if table is None else int(table.count_rows())
    except Exception:  # noqa: BLE001  Lance raises errors of many kinds
        return 0
    except BaseException as error:
        if not is_panic(error):
            raise
        return 0
