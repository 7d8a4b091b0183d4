"""Which content each file had when it was last read: a SQLite table of path, size, time of change and hash.

With it a second run over a folder asks the system about each file and reads none.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from memory.errors import printable_path
from recognizer.images.remote import is_remote
from recognizer.results.ledger import ImageStamp

NAME = "files.sqlite"
# A process that writes holds the file for milliseconds; one that does so for this long is stuck.
_BUSY_S = 10.0
# SQLite takes at least 999 variables in one statement.
_PATHS_PER_STATEMENT = 500
_VERSION = 1
_TABLE = (
    "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, "
    "sha256 TEXT NOT NULL, crc32 INTEGER NOT NULL) WITHOUT ROWID"
)


class FileHashes:
    """The stamps of files, by absolute path.

    May be used by several threads, one at a time. After an error of the disk it finds and stores nothing, and files are
    read again.

    Args:
        folder: holds the database; it exists.
        writable: whether stamps may be stored, and a damaged database replaced.
        warn: called with one sentence when the database cannot be used.
    """

    def __init__(self, folder: Path, *, writable: bool, warn: Callable[[str], None]) -> None:
        """Open the database, or create it."""
        self._path = folder / NAME
        self._writable = writable
        self._warn = warn
        self._connection: sqlite3.Connection | None = None
        if not writable and not self._path.exists():
            return
        with self._off_on_error():
            try:
                self._connect()
            except sqlite3.DatabaseError as error:
                if not writable or isinstance(error, sqlite3.OperationalError):
                    raise
                self._disconnect()
                self._path.unlink()  # it holds nothing that reading the files does not tell
                self._warn(f"{printable_path(self._path)} is damaged and made anew; files are read again")
                self._connect()

    def get(self, paths: Sequence[bytes]) -> dict[bytes, ImageStamp]:
        """Return the stamps that files had, by path; each has a hash."""
        stamps: dict[bytes, ImageStamp] = {}
        with self._off_on_error():
            for start in range(0, len(paths), _PATHS_PER_STATEMENT):
                some = paths[start : start + _PATHS_PER_STATEMENT]
                stamps |= self._select(f"WHERE path IN ({','.join('?' * len(some))})", some)
        return stamps

    def all(self) -> dict[bytes, ImageStamp]:
        """Return all stamps, by path."""
        stamps: dict[bytes, ImageStamp] = {}
        with self._off_on_error():
            stamps = self._select("ORDER BY path", ())
        return stamps

    def put(self, stamps: Mapping[bytes, ImageStamp]) -> None:
        """Store stamps that have a hash; they replace earlier ones of the same paths."""
        if not self._writable or self._connection is None or not stamps:
            return
        rows = [
            (path, stamp.size, stamp.mtime_ns, stamp.sha256, _checksum(path, stamp)) for path, stamp in stamps.items()
        ]
        with self._off_on_error(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Close the database."""
        self._disconnect()

    def _connect(self) -> None:
        address = f"{self._path.absolute().as_uri()}?mode={'rwc' if self._writable else 'ro'}"
        self._connection = sqlite3.connect(address, uri=True, timeout=_BUSY_S, check_same_thread=False)
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.OperationalError(f"it is of version {version}, which this release does not know")
        if self._writable:
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(f"BEGIN IMMEDIATE; {_TABLE}; PRAGMA user_version={_VERSION}; COMMIT")
        self._connection.execute("SELECT 1 FROM files LIMIT 1").fetchone()

    def _select(self, condition: str, values: Iterable[bytes]) -> dict[bytes, ImageStamp]:
        if self._connection is None:
            return {}
        rows = self._connection.execute(
            f"SELECT path, size, mtime_ns, sha256, crc32 FROM files {condition}", tuple(values)
        )
        stamps = ((path, ImageStamp(size, mtime_ns, sha256), crc32) for path, size, mtime_ns, sha256, crc32 in rows)
        return {path: stamp for path, stamp, crc32 in stamps if _checksum(path, stamp) == crc32}

    @contextmanager
    def _off_on_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self._disconnect()
            self._warn(f"{printable_path(self._path)} cannot be used ({error}); files are read to find their features")

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def absolute(path: bytes) -> bytes:
    """Return the path under which a file is stored."""
    return path if is_remote(path) else os.path.abspath(path)


def _checksum(path: bytes, stamp: ImageStamp) -> int:
    return zlib.crc32(b"%b\0%d %d %b" % (path, stamp.size, stamp.mtime_ns, str(stamp.sha256).encode()))
