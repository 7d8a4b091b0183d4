import subprocess
import sys
from importlib.metadata import version


def test_the_package_runs_as_the_command_line():
    shown = subprocess.run([sys.executable, "-m", "recognizer"], capture_output=True, text=True, check=False)
    assert shown.returncode == 2  # a command is missing
    assert "recognizer [OPTIONS] COMMAND" in shown.stdout + shown.stderr
    assert "Traceback" not in shown.stderr


def test_the_version_is_the_installed_one_and_loads_no_torch():
    code = "import sys, recognizer; print(recognizer.__version__); assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == version("recognizer")
