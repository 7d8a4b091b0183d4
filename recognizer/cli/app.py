"""The Typer application that the commands join, and how errors are shown."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from recognizer.console import note, user_errors

INTERRUPTED = 130

app = typer.Typer(
    name="recognizer",
    help="Open-vocabulary recognition with evidence: a label file and a folder of images in, ranked categories and the "
    "regions that speak for them out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
)


def show_version(wanted: bool) -> None:
    """Print the version and end, where it is asked for."""
    if wanted:
        from importlib.metadata import version

        print(version("recognizer"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options before a command; the application's own help text is shown."""


def main() -> None:
    """Run the command line; errors meant for the user are one sentence on stderr and exit code 2."""
    try:
        app()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # the application has caught the interrupt
            note("interrupted; the same command goes on from here")
        raise
    except KeyboardInterrupt:
        note("interrupted; the same command goes on from here")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if not isinstance(error, user_errors()):
            raise
        note(f"error: {error}")
        sys.exit(2)
