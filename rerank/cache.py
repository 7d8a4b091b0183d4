"""Answers of an MLLM on disk, keyed by content, so that no question is asked twice.

One table holds both what it thinks of candidates and what it writes; their keys never meet. Of candidates the MLLM's
own answer is stored, before retrieval's confidences are fused in, so another weight of the fusion needs no
new answers. One SQLite file serves several processes and threads; an answer whose `put` has returned survives the death
of the process. The cache is a convenience: if its file fails, that costs one warning and never a run. It writes to a
file that it has made itself, and never renames, replaces or deletes one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from rerank.base import Answer, Candidate, RerankError
from rerank.choice import Rotations

# Another process that writes an answer holds the file for milliseconds; one that does so for this long is stuck.
BUSY_S: Final = 10.0
# SQLite takes at least 999 variables in one statement.
KEYS_PER_STATEMENT: Final = 500
HEADER_BYTES: Final = 100  # of every SQLite database
VERSION: Final = 1
TABLE: Final = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"


class CacheFileRefused(RerankError):
    """The file named for the cache holds something else."""


def answer_key(
    *,
    image_sha256: str,
    candidates: Sequence[Candidate],
    identity: str,
    prompt_version: int,
    mode: str,
    rotations: Rotations,
    image_size: int,
    descriptions: int,
) -> str:
    """Hash all that the answer to a question depends on; retrieval's confidences are not part of it.

    Args:
        image_sha256: of the image file, or of its pixels.
        candidates: their order, names, groups and descriptions count.
        identity: of the MLLM, see `rerank.mllm.Mllm`.
        prompt_version: `rerank.prompt.PROMPT_VERSION`.
        mode: `choice` or `list`.
        rotations: of the options; None: all; or auto.
        image_size: longest side in pixels to which the image is scaled.
        descriptions: shown per candidate, at most.

    Returns:
        64 hexadecimal digits.
    """
    question = {
        "image": image_sha256,
        "candidates": [[c.name, c.group, list(c.descriptions)] for c in candidates],
        "identity": identity,
        "prompt": prompt_version,
        "mode": mode,
        "rotations": rotations,
        "image_size": image_size,
        "descriptions": descriptions,
    }
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


def text_key(*, image_sha256: str, text: str, schema: object, max_tokens: int, image_size: int, identity: str) -> str:
    """Hash all that a written answer depends on.

    Args:
        image_sha256: of the image file, or of its pixels; empty for a question without an image.
        text: of the question, which holds its names and descriptions.
        schema: JSON schema of the answer, or None.
        max_tokens: after which the answer is cut off.
        image_size: longest side in pixels to which the image is scaled.
        identity: of the MLLM, see `rerank.mllm.Mllm`.

    Returns:
        64 hexadecimal digits.
    """
    question = {
        "written": text,
        "image": image_sha256,
        "schema": schema,
        "max_tokens": max_tokens,
        "image_size": image_size if image_sha256 else None,
        "identity": identity,
    }
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


def default_cache_path() -> Path:
    """Return `$XDG_CACHE_HOME/recognizer/rerank.sqlite`, under `~/.cache` if the variable is unset or relative."""
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = configured if configured.is_absolute() else Path.home() / ".cache"
    return base / "recognizer" / "rerank.sqlite"


class AnswerCache:
    """Answers by key in one SQLite file.

    After an error of the disk or of SQLite the cache is off: it finds and stores nothing.

    Args:
        path: of the file; missing folders are made.
        warn: called with one sentence when an error turns the cache off.

    Raises:
        CacheFileRefused: the file is not a SQLite database, or one of another program or version.
    """

    def __init__(self, path: Path, *, warn: Callable[[str], None] | None = None) -> None:
        """Open the file, or create it."""
        self.path = path
        self._warn = warn or (lambda _: None)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        with self._lock, self._off_on_error():
            path.parent.mkdir(parents=True, exist_ok=True)
            _refuse_other_files(path)
            # Autocommit: an answer is stored once `put` returns. The lock orders the threads.
            self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                _prepare(self._connection, path)
            except CacheFileRefused:
                self._connection.close()
                raise

    @property
    def on(self) -> bool:
        """Whether answers are stored and found."""
        return self._connection is not None

    def get_many(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Return the stored answers, by key."""
        values = self._values(keys)
        return {key: answer for key, value in values.items() if (answer := _read(value)) is not None}

    def put(self, key: str, answer: Answer) -> None:
        """Store an answer; it replaces an earlier one of the same key."""
        self._store(key, {"log_probs": answer.log_probs, "reasons": answer.reasons})

    def get_texts(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the stored texts, by key."""
        return {key: text for key, value in self._values(keys).items() if (text := _read_text(value)) is not None}

    def put_text(self, key: str, text: str) -> None:
        """Store a text; it replaces an earlier one of the same key."""
        self._store(key, {"text": text})

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._disconnect()

    def _values(self, keys: Iterable[str]) -> dict[str, str]:
        wanted = list(dict.fromkeys(keys))
        values: dict[str, str] = {}
        with self._lock, self._off_on_error():
            for start in range(0, len(wanted), KEYS_PER_STATEMENT):
                if self._connection is None:
                    break
                some = wanted[start : start + KEYS_PER_STATEMENT]
                places = ",".join("?" * len(some))
                values.update(self._connection.execute(f"SELECT key, value FROM answers WHERE key IN ({places})", some))
        return values

    def _store(self, key: str, content: dict[str, object]) -> None:
        with self._lock, self._off_on_error():
            if self._connection is not None:
                self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(content)))

    @contextlib.contextmanager
    def _off_on_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self._disconnect()
            self._warn(f"answers are not stored for later runs: the cache {self.path} cannot be used ({error})")

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _refuse_other_files(path: Path) -> None:
    """Refuse a file that is not a SQLite database; SQLite itself would take a short text for an empty database."""
    header = b""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
        header = stream.read(HEADER_BYTES)
    if header and (len(header) < HEADER_BYTES or not header.startswith(b"SQLite format 3\0")):
        raise _refused(path, "is not a SQLite database")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the database is a cache of this version, or empty, and begin an empty one.

    Raises:
        CacheFileRefused: it is something else; nothing was written to it.
    """
    # In one transaction, for another process may be creating the table just now.
    connection.execute("BEGIN")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.execute("COMMIT")
    if (version, tables) != (VERSION, {"answers"}) and (version, tables) != (0, set()):
        raise _refused(path, f"is a SQLite database, but not a cache of answers of version {VERSION}")
    # The write-ahead log saves most of the time of a `put`. Two processes that create the file at once may stand in
    # each other's way here; both can work without it.
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode=WAL")
    # A killed process loses nothing with NORMAL; a power cut may cost the last answers.
    connection.execute("PRAGMA synchronous=NORMAL")
    if not tables:
        connection.executescript(f"BEGIN IMMEDIATE; {TABLE}; PRAGMA user_version={VERSION}; COMMIT")


def _refused(path: Path, problem: str) -> CacheFileRefused:
    return CacheFileRefused(f"{path} {problem}; name another file as rerank.cache, or move this one away")


def _read(value: str) -> Answer | None:
    """Read a stored value; None if it does not hold finite numbers."""
    try:
        content = json.loads(value)
        answer = Answer(tuple(map(float, content["log_probs"])), tuple(map(str, content["reasons"])))
    except (ValueError, TypeError, KeyError):
        return None
    return answer if answer.log_probs and all(map(math.isfinite, answer.log_probs)) else None


def _read_text(value: str) -> str | None:
    """Read a stored value; None if it does not hold a text."""
    try:
        text = json.loads(value)["text"]
    except (ValueError, TypeError, KeyError):
        return None
    return text if isinstance(text, str) else None
