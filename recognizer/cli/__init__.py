"""The command line: each command is a few lines over a function that Python users can call.

`main` runs it; results go to stdout, messages to stderr. Heavy libraries are imported inside the commands, so that
`--help` is quick. This package must not know the packages that add commands to it: they register through the
entry-point group `recognizer.commands`.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from recognizer.cli.app import add_plugins, app, main

# Each module adds its commands when it is imported; `--help` lists them in this order.
# isort: split
from recognizer.cli import memory_commands

# isort: split
from recognizer.cli import inspect_commands

# isort: split
from recognizer.cli import describe_commands

# isort: split
from recognizer.cli import model_commands

# isort: split
from recognizer.cli import run_commands

# isort: split
from recognizer.cli import rerank_commands

# isort: split
from recognizer.cli import evidence_commands

# isort: split
from recognizer.cli import report_commands

# isort: split
from recognizer.cli import measure_commands

# isort: split
from recognizer.cli import feature_commands

# isort: split
from recognizer.cli import benchmark_commands

# isort: split
from recognizer.cli import benchmark_set_commands

# isort: split
from recognizer.cli import serve_commands

# isort: split
from recognizer.cli import correction_commands

add_plugins(app, entry_points(group="recognizer.commands"))

__all__ = [
    "app",
    "benchmark_commands",
    "benchmark_set_commands",
    "correction_commands",
    "describe_commands",
    "evidence_commands",
    "feature_commands",
    "inspect_commands",
    "main",
    "measure_commands",
    "memory_commands",
    "model_commands",
    "report_commands",
    "rerank_commands",
    "run_commands",
    "serve_commands",
]
