"""The command line: each command is a few lines over a function that Python users can call.

Results go to stdout, chatter to stderr. Heavy libraries are imported inside the commands, so that `--help` is quick.
Other packages add commands through the entry-point group `recognizer.commands`: each entry point is a function that
takes the application.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from recognizer.cli.app import app, main

# Each module adds its commands when it is imported; `--help` lists them in this order.
# isort: split
from recognizer.cli import memory_commands

# isort: split
from recognizer.cli import run_commands

# isort: split
from recognizer.cli import measure_commands

for entry_point in entry_points(group="recognizer.commands"):
    entry_point.load()(app)

__all__ = ["app", "main", "measure_commands", "memory_commands", "run_commands"]
