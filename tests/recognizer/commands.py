"""Running commands in this process."""

from typer.testing import CliRunner

from recognizer.cli import app


def call(*arguments):
    """Run a command; returns (exit code, stdout, stderr), and raises what it would show as one sentence."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr
