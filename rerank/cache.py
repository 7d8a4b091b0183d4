"""Answers of an MLLM kept on disk by content, so that no question is asked twice.

What is kept is the MLLM's own answer, before retrieval's score is fused in: another weight of the fusion needs no new
answers. One SQLite file in WAL mode serves several processes and threads; an answer whose `put` has returned survives
the process. The cache is a convenience: whatever is wrong with its file costs one warning, never a run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rerank.base import Candidate

_BUSY_S: Final = 10.0
_POLL_S: Final = 0.01
# SQLite takes at least 999 variables in one statement.
_KEYS_AT_ONCE: Final = 500
_VERSION: Final = 1
_TABLE: Final = "CREATE TABLE answers (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an MLLM said about k candidates.

    Attributes:
        log_probs: (k,) natural logarithms of its probabilities, in the order the candidates were given in.
        reasons: what was mended in a written list.
    """

    log_probs: tuple[float, ...]
    reasons: tuple[str, ...] = ()


def answer_key(
    *,
    image_sha256: str,
    candidates: Sequence[Candidate],
    identity: str,
    prompt_version: int,
    mode: str,
    rotations: int | None,
    image_size: int,
    descriptions: int,
) -> str:
    """Name a question by everything its answer depends on; retrieval's confidences are not among it.

    Args:
        image_sha256: of the image file, or of whatever its pixels were made of.
        candidates: in the order given; their names, groups and descriptions count.
        identity: of the MLLM, see `rerank.mllm.Mllm`.
        prompt_version: `rerank.prompt.PROMPT_VERSION`.
        mode: `choice` or `list`.
        rotations: how many are asked for; None: all.
        image_size: the limit the image is scaled to, in pixels.
        descriptions: how many are shown per candidate.

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


def default_cache_path() -> Path:
    """Return `$XDG_CACHE_HOME/recognizer/rerank.sqlite`, under `~/.cache` where the variable is unset or relative."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = given if given.is_absolute() else Path.home() / ".cache"
    return base / "recognizer" / "rerank.sqlite"


class AnswerCache:
    """Answers by key in one file.

    A damaged file is put aside as `NAME.damaged` and a new one begun. Where the disk refuses, the file is another
    program's database or nothing else helps, the cache turns itself off: then nothing is found and nothing kept.

    Args:
        path: of the file; folders are made.
        warn: called with one sentence when a file was put aside, and with one when the cache turned itself off.
    """

    def __init__(self, path: Path, *, warn: Callable[[str], None] | None = None) -> None:
        """Open the file, or begin it."""
        self.path = path
        self._warn = warn or (lambda _: None)
        self._lock = threading.Lock()
        self._put_aside = False
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        with self._lock, self._off_on_error():
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._one_process():
                self._open_or_begin_anew()

    @property
    def on(self) -> bool:
        """Whether answers are kept and found."""
        return self._connection is not None

    def get_many(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Return the answers that are there, by key."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Answer] = {}
        with self._lock, self._off_on_error():
            for start in range(0, len(wanted), _KEYS_AT_ONCE):
                some = wanted[start : start + _KEYS_AT_ONCE]
                places = ",".join("?" * len(some))
                rows = self._run(f"SELECT key, value FROM answers WHERE key IN ({places})", some)
                found.update((key, answer) for key, value in rows if (answer := _read(value)) is not None)
        return found

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer; the last one of a key counts. One with a number that is not finite is not kept."""
        if not _is_sound(answer):
            return
        value = json.dumps({"log_probs": [float(each) for each in answer.log_probs], "reasons": answer.reasons})
        with self._lock, self._off_on_error():
            self._run("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, value))

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._let_go()

    def _run(self, statement: str, values: Sequence[str]) -> list[tuple[str, str]]:
        """Run a statement; where the file turns out to be damaged begin a new one, once, and run it there."""
        if self._connection is None:
            return []
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.DatabaseError as error:
            if self._put_aside or not _is_damage(error):
                raise
            opened = self._file
            self._let_go()
            with self._one_process():
                # Another process may have begun a new file already; that one holds answers.
                if _identity(self.path) == opened:
                    self._move_aside(error)
                self._open_or_begin_anew()
            return self._connection.execute(statement, values).fetchall()

    def _open_or_begin_anew(self) -> None:
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if self._put_aside or not _is_damage(error):
                raise
            self._move_aside(error)
            self._open()

    def _open(self) -> None:
        # Autocommit: an answer is kept once `put` returns. One lock orders the threads.
        connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            # A killed process loses nothing with NORMAL; a power cut may cost the last answers.
            connection.execute("PRAGMA synchronous=NORMAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if version not in (0, _VERSION) or (version == 0 and tables):
                raise _ForeignFile(f"it is not a cache of answers of version {_VERSION}")
            if version == 0:
                connection.executescript(f"BEGIN IMMEDIATE; {_TABLE}; PRAGMA user_version={_VERSION}; COMMIT")
        except BaseException:
            connection.close()
            raise
        self._connection, self._file = connection, _identity(self.path)

    def _move_aside(self, error: sqlite3.DatabaseError) -> None:
        self._put_aside = True
        aside = self.path.with_name(self.path.name + ".damaged")
        # The log goes first: it must never be read as that of the new file.
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        os.replace(self.path, aside)
        self._warn(f"the cache of answers {self.path} is damaged ({error}); it was put aside as {aside.name}")

    @contextlib.contextmanager
    def _one_process(self) -> Iterator[None]:
        """Hold the right to begin or replace the file; the kernel takes it back from a process that ends."""
        descriptor = os.open(
            self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        try:
            deadline = time.monotonic() + _BUSY_S
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise TimeoutError("another process has held its lock for too long")
                time.sleep(_POLL_S)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _off_on_error(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self._let_go()
            self._warn(f"answers are not kept for later runs: the cache {self.path} cannot be used ({error})")

    def _let_go(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


class _ForeignFile(sqlite3.Error):
    """An intact database that is something else, or of a later version: it is left alone."""


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    # The low byte is the error, the rest says more about it.
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(value: str) -> Answer | None:
    """Read a value, or nothing where it does not hold an answer."""
    try:
        content = json.loads(value)
        answer = Answer(tuple(map(float, content["log_probs"])), tuple(map(str, content["reasons"])))
    except (ValueError, TypeError, KeyError):
        return None
    return answer if _is_sound(answer) else None


def _is_sound(answer: Answer) -> bool:
    return bool(answer.log_probs) and all(map(math.isfinite, answer.log_probs))
