"""The Typer application that the commands join, commands of other packages, and how errors are shown."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from importlib.metadata import EntryPoint
from typing import Annotated, Any, TextIO

import typer

from recognizer.allocator import keep_freed_memory, let_idle_threads_sleep
from recognizer.console import note, show, user_errors

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE
_HOW_TO_RESUME = "interrupted; repeat the same command to resume"

# The commands that `--help` shows, by panel, in the order in which a new user needs them. Commands of other packages
# follow, in panels of their own.
PANELS = {
    "Recognise": ("demo", "build", "run", "report"),
    "Look, correct, hand on": ("why", "review", "learn", "rerank", "export-results"),
    "Categories and their examples": ("describe", "add", "remove", "info", "verify", "repair", "export"),
    "Accuracy": ("eval", "calibrate", "benchmark"),
    "Stored features": ("embed", "find", "near-duplicates"),
    "Encoders": ("models", "export-onnx"),
    "Server and installation": ("serve", "doctor"),
}


class Commands(typer.core.TyperGroup):
    """The commands, in the order of `PANELS`."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401  Typer's own context, which it does not export
        """Return the names of the commands."""
        order = [name for names in PANELS.values() for name in names]
        return sorted(super().list_commands(ctx), key=lambda name: order.index(name) if name in order else len(order))

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run a command; say of a value that an option does not take what to give, in our words."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            from pydantic import ValidationError

            from memory.errors import printable
            from recognizer.errors import reason_of

            if isinstance(error.__cause__, ValidationError):
                problem = error.__cause__.errors()[0]
                reason = printable(reason_of(problem), 400)
                is_whole = problem["type"] == "value_error"  # names the value already
                error.message = reason if is_whole else f"{printable(repr(problem['input']))}: {reason}."
            error.message += _nearest_choice(error.message)
            raise


def _nearest_choice(message: str) -> str:
    """Return what to add to "'a' is not one of 'b', 'c'."; nothing where no choice is near, or to another message."""
    import difflib
    import re

    value, _, choices = message.partition(" is not one of ")
    nearest = difflib.get_close_matches(value.strip("'\"").casefold(), re.findall(r"'([^']*)'", choices), n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""


app = typer.Typer(
    name="recognizer",
    cls=Commands,
    help="Open-vocabulary recognition with evidence: from a label file and a folder of images to ranked categories, "
    "with the image regions that support them.\n\n"
    "To see it work: recognizer demo\n\n"
    "With your own files: recognizer build LABELS --memory M, then recognizer run IMAGES --memory M --output "
    "results.jsonl, then recognizer report results.jsonl --output report. COMMAND --help has an example of each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),  # --top_k is --top-k
        "help_option_names": ["-h", "--help"],
    },
)


def show_version(requested: bool) -> None:
    """Print the version and exit, if `--version` is given."""
    if requested:
        from recognizer import __version__

        show(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options before a command; `--help` shows the help text of the application instead of this."""


def arrange(app: typer.Typer) -> None:
    """Put the commands of this package into their panels."""
    panel_of = {name: panel for panel, names in PANELS.items() for name in names}
    for command in app.registered_commands:
        if command.name is None and command.callback is not None:
            command.name = command.callback.__name__.replace("_", "-")
        command.rich_help_panel = panel_of.get(str(command.name))
    for group in app.registered_groups:
        group.rich_help_panel = panel_of.get(str(group.name))


def add_plugins(app: typer.Typer, plugins: Iterable[EntryPoint]) -> None:
    """Let other packages add their commands; a package that cannot be loaded costs only its own commands.

    Args:
        app: the application.
        plugins: entry points of functions that take the application.
    """
    for plugin in plugins:
        try:
            plugin.load()(app)
        except Exception as error:  # noqa: BLE001  a plug-in may raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            note(f"the commands of {plugin.name!r} ({plugin.value}) are not available: {reason}")


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning of this project as one line, and one of a library as Python does."""
    if category.__module__.split(".")[0] == "recognizer":
        note(f"WARNING: {message}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _sentence(error: BaseException) -> str:
    """Return the message of an error; that of the system names the file first, and says what to do."""
    if type(error).__str__ is OSError.__str__ and isinstance(error, OSError) and error.filename and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}; check the path and its permissions"
    return str(error)


def main(app: typer.Typer = app) -> None:
    """Run the command line; an error meant for the user becomes one sentence on stderr and exit code 2."""
    keep_freed_memory()
    let_idle_threads_sleep()
    warnings.showwarning = show_warning
    try:
        app()
    except SystemExit as exit_request:
        if exit_request.code == INTERRUPTED:  # the application has caught the interrupt
            note(_HOW_TO_RESUME)
        raise
    except KeyboardInterrupt:
        note(_HOW_TO_RESUME)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # or Python complains about the pipe once more on exit
        sys.exit(BROKEN_PIPE)
    except Exception as error:
        if not isinstance(error, user_errors()):
            raise
        note(f"error: {_sentence(error)}")
        sys.exit(2)
