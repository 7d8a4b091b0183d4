"""A write in a process of its own, disturbed at one of the calls that change the disk.

Python's own calls are seen by an audit hook, and `os.fsync`, which has no audit event, is replaced. What Lance, FAISS
and safetensors do themselves no hook sees: where `strace` is installed and may be used, it disturbs their system calls.
"""

from __future__ import annotations

import errno
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory import MemoryStoreError
from memory.errors import WriteFailed
from recognizer.errors import RecognizerError
from training.errors import TrainingError

SENTENCES = (MemoryStoreError, WriteFailed, RecognizerError, TrainingError)
"""The errors that a command prints as they are, without a traceback."""

KILL = "KILL"
_CHANGES = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
# What Lance, FAISS and safetensors publish with. Not `write`, because an injected error meets the wake-up calls of
# Lance's threads and hangs the process; not calls that Python alone makes, because the hook sees these.
_SYSTEM_CALLS = ("rename", "renameat", "renameat2", "link", "linkat", "unlink", "ftruncate", "fdatasync")
_TRACED = re.compile(r"^(\d+) +(\w+)\(")
_SECONDS = 300  # for a write that takes a tenth of a second, on a machine that may be busy


@dataclass(frozen=True, slots=True)
class Point:
    """The number-th call of a kind, from 1.

    Attributes:
        call: a system call, seen by strace and counted by thread; "python": any change of the disk, seen by the hook;
            "size": not a call but the number of bytes above which no file can grow.
        number: which one.
    """

    call: str
    number: int

    def __str__(self) -> str:
        """Return both."""
        return f"{self.call} {self.number}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended.

    Attributes:
        how: "returned", "refused" (an error of ours), "killed", or a description of what must not be.
        value: what the function returned, or the text of the error.
    """

    how: str
    value: Any = None

    def result(self) -> Any:
        """Return the value of a function that was not disturbed.

        Raises:
            RuntimeError: it failed.
        """
        if self.how != "returned":
            raise RuntimeError(f"what is not disturbed failed: {self.how} {self.value}")
        return self.value


def watch(root: Path, before: Callable[[], None], synced: Callable[[Path], None] = lambda path: None) -> None:
    """Call `before` ahead of each change below `root`, `synced` after each fsync; for the rest of the process."""
    sync, busy = os.fsync, threading.local()

    def is_below(name: Any, folder: int = -1) -> bool:
        if isinstance(name, int):
            name = os.readlink(f"/proc/self/fd/{name}")
        elif folder not in (-1, None):
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(name))
        return os.path.abspath(os.fsdecode(name)).startswith(f"{root}{os.sep}")

    def meet(change: Callable[[], bool]) -> None:
        if not getattr(busy, "is_set", False):
            busy.is_set = True  # what the watcher does itself does not count
            try:
                if change():
                    before()
            finally:
                busy.is_set = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES:
            return
        if event == "open":
            reads = not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
            meet(lambda: not reads and not isinstance(arguments[0], int) and is_below(arguments[0]))
        elif event in ("os.rename", "os.link", "os.symlink"):
            meet(lambda: is_below(arguments[1], arguments[-1]))
        else:
            folder = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
            meet(lambda: is_below(arguments[0], folder))

    def watched_sync(descriptor: int) -> None:
        meet(lambda: is_below(descriptor))
        sync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path == root or is_below(descriptor):
            synced(path)

    os.fsync = watched_sync
    sys.addaudithook(hook)


def in_child(function: Callable[[], Any], *, tracer: list[str] | None = None) -> Outcome:
    """Call a function in a forked process, which `tracer` (a command of strace) is attached to."""
    result, sender = os.pipe()
    start, starter = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and Lance warn about forks of a process with threads
        child = os.fork()
        if not child:
            os.close(starter)
            os.read(start, 1)
            _send(sender, function)
    os.close(sender)
    os.close(start)
    tracing = _attach(tracer, child) if tracer else None
    os.close(starter)
    alarm = threading.Timer(_SECONDS, os.kill, (child, signal.SIGABRT))
    alarm.start()
    with os.fdopen(result, "rb") as stream:
        data = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    alarm.cancel()
    if tracing is not None:
        tracing.communicate()
    if code == -signal.SIGKILL:
        return Outcome("killed")
    return Outcome(*pickle.loads(data)) if data and not code else Outcome(f"ENDED with code {code}")


def _send(sender: int, function: Callable[[], Any]) -> None:
    """Call a function, send what came of it, and end the process."""
    try:
        answer: tuple[str, Any] = ("returned", function())
    except SENTENCES as error:
        answer = ("refused", str(error))
    except BaseException as error:  # noqa: BLE001  what the campaign looks for
        place = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        answer = ("TRACEBACK", f"{type(error).__name__}: {str(error)[:300]} at {' '.join(place[-6:])}")
    with os.fdopen(sender, "wb") as stream:
        stream.write(pickle.dumps(answer))
    os._exit(0)


def _attach(tracer: list[str], child: int) -> subprocess.Popen[str]:
    tracing = subprocess.Popen([*tracer, "-p", str(child)], stderr=subprocess.PIPE, text=True)
    while "attached" not in (line := tracing.stderr.readline()):
        if not line:
            os.kill(child, signal.SIGKILL)
            raise RuntimeError(f"{' '.join(tracer)} ended before it was attached")
    return tracing


def can_trace() -> bool:
    """Say whether strace is installed and may be attached."""
    if not shutil.which("strace"):
        return False
    try:
        return in_child(lambda: 1, tracer=_strace("fsync")).value == 1
    except RuntimeError:
        return False


def _strace(call: str, *more: str) -> list[str]:
    return ["strace", "-f", "-e", f"trace={call}", *more]


def points_of(act: Callable[[], object], root: Path, *, traced: bool) -> list[Point]:
    """Return the points of a write: every change that Python makes, and the system calls of all."""

    def count() -> int:
        met = []
        watch(root, lambda: met.append(None))
        act()
        return len(met)

    if not traced:
        return [Point("python", number + 1) for number in range(in_child(count).result())]
    with tempfile.NamedTemporaryFile("r") as log:
        in_child(act, tracer=_strace(",".join(_SYSTEM_CALLS), "-o", log.name)).result()
        threads = Counter(match.groups() for line in log if (match := _TRACED.match(line)))
    most: dict[str, int] = {}
    for (_, call), number in threads.items():
        most[call] = max(number, most.get(call, 0))
    return [Point(call, number) for call in sorted(most) for number in range(1, most[call] + 1)]


def disturbed(act: Callable[[], object], root: Path, point: Point, fault: str, *, for_ever: bool = False) -> Outcome:
    """Do a write that is killed, or meets an I/O error, at a point.

    Args:
        act: the write.
        root: the folder it writes to.
        point: where.
        fault: "KILL", or the name of an error of the system.
        for_ever: the calls after the point fail as well.
    """
    met = 0

    def before() -> None:
        nonlocal met
        met += 1
        if met == point.number or (for_ever and met > point.number):
            if fault == KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            number = getattr(errno, fault)
            raise OSError(number, os.strerror(number))

    def watched() -> object:
        if point.call == "size":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (point.number, resource.RLIM_INFINITY))
        else:
            watch(root, before)
        return act()

    if point.call in ("python", "size"):
        return in_child(watched)
    effect = "signal=KILL" if fault == KILL else f"error={fault}"
    when = f"{point.number}{'+' if for_ever else ''}"
    return in_child(
        act, tracer=_strace(point.call, "-o", "/dev/null", "-e", f"inject={point.call}:{effect}:when={when}")
    )
