"""The LanceDB table of the features of one encoder, found by the hash of the file.

Rows are only appended; of two with one hash the later one counts. Lance calls no fsync and keeps no checksums, so every
row is checked when it is read. A lost table costs time and nothing else: a damaged one is moved aside and begun anew.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from memory.durable import write_failure
from memory.errors import printable_path
from memory.store import LanceObject, is_panic
from recognizer.features.stored_image import Stored, from_table, make_schema, to_table

NAME = "images"
# Rows are written when so many wait, or the first has waited so long: few and large fragments, and a killed run loses
# a minute. With 200 kB an image 50 MB wait.
FLUSH_ROWS = 256
FLUSH_SECONDS = 60.0


class FeatureTable:
    """The rows of one encoder.

    Args:
        folder: holds the table; it exists.
        dim: D of the encoder.
        writable: whether rows may be added, and a damaged table moved.
        with_failures: whether stored failures are found.
        warn: called with one sentence when the table turns out to be damaged, or cannot be written.
    """

    def __init__(
        self, folder: Path, dim: int, *, writable: bool, with_failures: bool, warn: Callable[[str], None]
    ) -> None:
        """Open the table, if there is one, and read which files it has."""
        self._folder = folder
        self._dim = dim
        self._writable = writable
        self._warn = warn
        self._table: LanceObject | None = None
        self._offsets: dict[str, int] = {}
        self._waiting: dict[str, Stored] = {}
        self._waiting_since = 0.0
        self._said: set[str] = set()
        if (folder / f"{NAME}.lance").exists():
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
            self._say(
                "rows", f"some features in {printable_path(self._folder)} are damaged; their images are encoded again"
            )
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
        before = set(_files(self._folder))
        rows = to_table(list(self._waiting.values()), self._dim)
        try:
            if self._table is None:
                import lancedb

                self._table = lancedb.connect(self._folder).create_table(NAME, data=rows)
            else:
                self._table.add(rows)
        except BaseException as error:
            with contextlib.suppress(OSError):  # what was half written would fill the disk
                for path in set(_files(self._folder)) - before:
                    os.unlink(path)
            if not isinstance(error, Exception) and not is_panic(error):
                raise
            self._writable = False
            failure = write_failure(self._folder, error if isinstance(error, OSError) else RuntimeError(str(error)))
            self._warn(f"features are not stored any more: {failure}")
        else:
            start = int(self._table.count_rows()) - len(rows)
            self._offsets |= {sha256: start + place for place, sha256 in enumerate(self._waiting)}
        self._waiting.clear()

    def _open(self, with_failures: bool) -> None:
        import lancedb

        table = lancedb.connect(self._folder).open_table(NAME)
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
            shown = printable_path(self._folder)
            if not self._writable:
                self._say("table", f"the features in {shown} cannot be read, so images are encoded again")
                return
            aside = self._folder / f"{NAME}.damaged"
            shutil.rmtree(aside, ignore_errors=True)
            try:
                os.replace(self._folder / f"{NAME}.lance", aside)
            except OSError as refusal:
                self._writable = False
                self._say("table", f"the features in {shown} are damaged and cannot be moved away: {refusal}")
                return
            self._say(
                "table",
                f"the features in {shown} are damaged, so images are encoded again and stored anew; the damaged table "
                f"is now {aside.name}, which you can delete",
            )

    def _say(self, what: str, sentence: str) -> None:
        """Warn, once of each thing."""
        if what not in self._said:
            self._said.add(what)
            self._warn(sentence)


def count_images(folder: Path) -> int:
    """Count the images in the table of a folder; 0 where it cannot be read."""
    import lancedb

    try:
        return int(lancedb.connect(folder).open_table(NAME).count_rows())
    except Exception:  # noqa: BLE001  Lance raises errors of many kinds
        return 0
    except BaseException as error:
        if not is_panic(error):
            raise
        return 0


def _files(folder: Path) -> Iterator[str]:
    return (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
