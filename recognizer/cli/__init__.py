"""The command line: each command is a few lines over a function that Python users can call.

Results go to stdout, chatter to stderr. Heavy libraries are imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

from recognizer.cli.app import app, main

# Each module adds its commands when it is imported; `--help` lists them in this order.
# isort: split
from recognizer.cli import memory_commands

# isort: split
from recognizer.cli import run_commands

# isort: split
from recognizer.cli import measure_commands

# isort: split
from recognizer.cli import train_commands

__all__ = ["app", "main", "measure_commands", "memory_commands", "run_commands", "train_commands"]
