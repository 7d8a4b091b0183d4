import subprocess
import sys


def test_the_package_runs_as_the_command_line():
    shown = subprocess.run([sys.executable, "-m", "recognizer"], capture_output=True, text=True, check=False)
    assert shown.returncode == 2  # a command is missing
    assert "recognizer [OPTIONS] COMMAND" in shown.stdout + shown.stderr
    assert "Traceback" not in shown.stderr
