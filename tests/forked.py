"""Processes forked from one that has imported everything: importing torch and the rest takes seconds each time."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

multiprocessing.set_forkserver_preload(
    ["open_clip", "transformers", "memory", "recognizer.cli", "recognizer.recognizer", "recognizer.run", "training.run"]
)


def start(function: Callable[..., object], *arguments: object) -> BaseProcess:
    """Call a function, which must be one of a module, in a process of its own."""
    process = multiprocessing.get_context("forkserver").Process(target=function, args=arguments)
    process.start()
    return process


def start_command(*arguments: object, output: Path | None = None, **environment: str) -> BaseProcess:
    """Start `recognizer` in a process of its own, with this process's environment and some more variables.

    Args:
        arguments: of the command line.
        output: gets what it writes to stdout; stderr is thrown away.
        environment: the further variables.
    """
    words = [str(argument) for argument in arguments]
    return start(_run, words, os.environ | environment, str(output or os.devnull))


def kill_after(process: BaseProcess, output: Path, lines: int) -> int:
    """Kill a process once a file has so many lines, and return how many it has then."""
    while process.is_alive() and _lines(output) < lines:
        time.sleep(0.005)
    process.kill()
    process.join()
    return _lines(output)


def _run(words: list[str], environment: dict[str, str], output: str) -> None:
    from recognizer.cli import main

    os.environ.update(environment)
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.argv = ["recognizer", *words]
    main()


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
