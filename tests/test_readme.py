import re
import shutil
import subprocess
import sys
from pathlib import Path

from recognizer.demo import DATA

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_ten_lines_of_python_run(tmp_path, monkeypatch, capsys):
    snippet = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    shutil.copy(DATA / "labels.json", tmp_path / "labels.json")
    shutil.copy(DATA / "photos" / "cat.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("tabby cat 0.")
    assert "striped fur" in printed


def test_every_command_named_exists():
    from recognizer.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    named = set(re.findall(r"^recognizer (\w+)", README, re.MULTILINE)) | set(
        re.findall(r"&& recognizer (\w+)", README)
    )
    assert named <= known
    assert {"build", "run", "why", "eval", "demo"} <= named


def test_every_path_named_exists():
    for path in re.findall(r"\]\(([\w/.]+)\)", README) + re.findall(r"(?:python|bash) ([\w/]+\.(?:py|sh))", README):
        assert (ROOT / path).exists(), path


def test_our_training_package_is_the_one_imported():
    code = "import training; print(training.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == ROOT / "training"
