"""Results of stages on disk, keyed by all they depend on, so that nothing is asked or computed twice.

One SQLite file beside the output. A batch is one transaction: after a kill all its results are there, or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from memory.durable import make_folder
from training.errors import DataError

_VERSION: Final = 1
_TABLE: Final = "CREATE TABLE results (key BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
_MISSING: Final = object()


def key_of(*parts: object) -> bytes:
    """Hash JSON values to 16 bytes."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()[:16]


class Store:
    """JSON values by key; a context manager, for one thread.

    Args:
        path: of the file; created with its folder if missing.

    Raises:
        DataError: it cannot be opened, is something else, or another process has it open.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file and lock it."""
        self.path = path
        try:
            make_folder(path.parent)
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        try:
            # The system releases the lock when the process ends, however it ends.
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            # A killed process loses nothing with NORMAL, and waits for the disk rarely; a power cut may cost the last
            # batches, which are then computed again.
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute("BEGIN IMMEDIATE")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if (version, tables) == (0, 0):
                self._connection.execute(_TABLE)
                self._connection.execute(f"PRAGMA user_version={_VERSION}")
            elif version != _VERSION:
                raise DataError(f"{path}: this is no store of annotations of version {_VERSION}; move it away")
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._connection.close()
            raise self._unusable(error) from error
        except DataError:
            self._connection.close()
            raise

    def get(self, key: bytes, default: Any = None) -> Any:  # noqa: ANN401  any JSON value
        """Return the value of a key."""
        with self._sentences():
            row = self._connection.execute("SELECT value FROM results WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def __contains__(self, key: bytes) -> bool:
        """Tell whether a key has a value."""
        return self.get(key, _MISSING) is not _MISSING

    def put(self, values: Mapping[bytes, Any]) -> None:
        """Store the values of a batch, all or none."""
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        with self._sentences():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT OR REPLACE INTO results VALUES (?, ?)", rows)
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def __enter__(self) -> Store:
        """Return the store itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._connection.close()

    @contextlib.contextmanager
    def _sentences(self) -> Any:  # noqa: ANN401  a context manager
        try:
            yield
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> DataError:
        if "locked" in str(error):
            return DataError(f"{self.path}: another process annotates into this output; wait for it, or end it")
        reason = error.strerror if isinstance(error, OSError) else error
        return DataError(f"{self.path}: results of stages cannot be stored: {reason}")
