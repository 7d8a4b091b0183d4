"""The memory that a server answers from, taken anew when another process or a request has changed it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from memory import Memory, MemoryStoreError
from memory.errors import ObjectStoreError
from memory.manifest import MANIFEST_NAME
from memory.remote.memory import local_copy
from memory.wording import counted
from recognizer.errors import RecognizerError

if TYPE_CHECKING:
    from recognizer.recognizer import Recognizer

LOOK_EVERY_S = 1.0  # one call of `stat`, or two small requests to an object store

Open = Callable[[Memory, "Recognizer | None"], "Recognizer"]
"""Makes a recognizer of a memory; it may take the encoder of the one before, if that made the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """A memory with all that answers from it; a request keeps that which it began with.

    Attributes:
        recognizer: of the memory.
        number: counted from 1.
    """

    recognizer: Recognizer
    number: int

    @property
    def memory(self) -> Memory:
        """The memory."""
        return self.recognizer.memory


@dataclass
class FollowedMemory:
    """Holds the newest generation that could be opened.

    Attributes:
        directory: of the memory, or its address.
        open: makes recognizers.
        tell: called with a sentence when another memory was taken, and when there is none to take.
        current: the newest generation.
        problem: why `current` is not the memory on the disk; None: it is.
    """

    directory: str | Path
    open: Open
    tell: Callable[[str], None]
    current: Generation = field(init=False)
    problem: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Open the first generation; its errors are the caller's."""
        self._seen = self._stamp()
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.current = Generation(self._opened(None), 1)

    def start(self) -> None:
        """Look for changes in the background."""
        self._thread = threading.Thread(target=self._watch, name="follow", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no longer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def refresh(self) -> None:
        """Take the memory anew if it has changed; where it cannot be opened, the present generation stays."""
        with self._turn:
            stamp = self._stamp()
            if stamp == self._seen:
                return
            self._seen = stamp
            if stamp is None:
                self._set_problem("the memory is gone or cannot be reached")
                return
            try:
                recognizer = self._opened(self.current.recognizer)
            except (MemoryStoreError, RecognizerError, OSError, ValueError) as error:
                self._set_problem("the changed memory cannot be used", str(error))
                return
            if recognizer.memory.digest != self.current.memory.digest or (
                recognizer.settings != self.current.recognizer.settings
            ):
                self.current = Generation(recognizer, self.current.number + 1)
                self.tell(f"took the changed memory: {self._named()}")
            elif self.problem is not None:
                self.tell(f"the memory is back, unchanged: {self._named()}")
            self.problem = None

    def _set_problem(self, problem: str, reason: str = "") -> None:
        """Tell a problem; clients are not told the reason, which names files."""
        self.problem = problem
        self.tell(f"{problem}{f' ({reason})' if reason else ''}; version {self.current.memory.version} answers on")

    def _named(self) -> str:
        memory = self.current.memory
        return f"version {memory.version}, {counted(memory.info().categories, 'category')}"

    def _opened(self, before: Recognizer | None) -> Recognizer:
        recognizer = self.open(Memory.open(self.directory), before)
        _ = recognizer.scorer.head  # fitted now, and not by the first request
        return recognizer

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self.refresh()
            except Exception as error:  # noqa: BLE001  the server lives on, and looks again
                self.tell(f"the memory could not be looked at: {error}")

    def _stamp(self) -> tuple[int, int, int] | None:
        """Return what changes when the memory does; None while there is none."""
        try:
            found = os.stat(local_copy(self.directory) / MANIFEST_NAME)
        except (OSError, ObjectStoreError):
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
