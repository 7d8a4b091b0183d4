"""The command line: each command is a few lines over a function that Python users can call.

`main` runs it; results go to stdout, messages to stderr. Heavy libraries are imported inside the commands, so that
`--help` is quick. This package must not know the packages that add commands to it: they register through the
entry-point group `recognizer.commands`.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from recognizer.cli import (  # each adds its commands when it is imported
    benchmark_commands,
    benchmark_set_commands,
    correction_commands,
    describe_commands,
    evidence_commands,
    feature_commands,
    inspect_commands,
    measure_commands,
    memory_commands,
    model_commands,
    report_commands,
    rerank_commands,
    run_commands,
    serve_commands,
)
from recognizer.cli.app import add_plugins, app, arrange, main

arrange(app)
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
