import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from recognizer.demo import DATA

ROOT = Path(__file__).parents[1]
TINY_MLLM = ROOT / "tests" / "rerank" / "tiny_mllm" / "model"
README = (ROOT / "README.md").read_text(encoding="utf-8")


RECOGNISE, RERANK, TRAIN = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_lines_that_recognise_run(tmp_path, monkeypatch, capsys):
    shutil.copy(DATA / "labels.json", tmp_path / "labels.json")
    shutil.copy(DATA / "photos" / "cat.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(RECOGNISE, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("tabby cat 0.")
    assert "striped fur" in printed


def test_the_lines_that_rerank_run(tmp_path, monkeypatch, capsys):
    Image.open(DATA / "photos" / "cat.jpg").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    exec(compile(RERANK.replace("http://127.0.0.1:8000/v1", str(TINY_MLLM)), "README.md", "exec"), {})
    status, names = capsys.readouterr().out.split(" ", 1)
    assert status == "ok"
    assert sorted(ast.literal_eval(names)) == ["lynx", "tabby cat"]


def test_the_lines_that_train_run(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for name in ("cat", "coffee"):
        shutil.copy(DATA / "photos" / f"{name}.jpg", tmp_path)
    regions = [{"box_xyxy": [10, 10, 200, 200], "description": "it"}]
    lines = [{"image": f"{name}.jpg", "captions": [f"a {name}"], "regions": regions} for name in ("cat", "coffee")]
    (tmp_path / "my.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.chdir(tmp_path)
    exec(compile(TRAIN, "README.md", "exec"), {})
    assert Path(capsys.readouterr().out.strip()).stat().st_size > 0


def test_every_command_named_exists():
    from recognizer.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    named = set(re.findall(r"^recognizer (\w+)", README, re.MULTILINE)) | set(
        re.findall(r"&& recognizer (\w+)", README)
    )
    assert named <= known
    assert {"build", "run", "why", "eval", "demo"} <= named


@pytest.mark.parametrize("folder", [ROOT, ROOT / "tests" / "benchmarks"])
def test_every_path_named_exists(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"\]\(([\w/.]+)\)", text):
        assert (folder / path).exists(), path
    for path in re.findall(r"(?:python|bash|pytest) ([\w/]+\.(?:py|sh))", text):
        assert (ROOT / path).exists(), path


def test_our_training_package_is_the_one_imported():
    code = "import training; print(training.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == ROOT / "training"
