"""The commands: those of `python -m training`, those that texts name, and training on several processes."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from recognizer.cli import app
from tests.training.runs import largest_difference, make_config, make_settings
from training.checkpoint import Checkpoints
from training.run import train

ROOT = Path(__file__).parents[2]
TEXTS = [
    ROOT / "README.md",
    ROOT / "recognizer/encoder/starter/README.md",
    *(ROOT / "configs/train").glob("*.yaml"),
    *(ROOT / "training").rglob("*.py"),
    *(ROOT / "training").rglob("*.sh"),
]
NAMED = sorted({name for path in TEXTS for name in re.findall(r"python -m (training[\w.]*\w)", path.read_text())})


def test_the_texts_name_the_starters_commands():
    assert set(NAMED) >= {f"training.starter.{name}" for name in ("classes", "scene_shards", "sets", "words")}


@pytest.mark.parametrize("name", [name for name in NAMED if name != "training"])
@pytest.mark.parametrize(("arguments", "code", "stream"), [(["--help"], 0, "out"), ([], 2, "err")])
def test_every_command_that_a_text_names_shows_its_usage(name, arguments, code, stream, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main()
    assert ended.value.code == code
    assert "usage: " in getattr(capsys.readouterr(), stream)


def test_torchrun_is_named_with_a_module_that_exists():
    commands = [line for path in TEXTS for line in path.read_text().splitlines() if "torchrun --nproc" in line]
    assert len(commands) > 3
    assert all("-m recognizer train" in line for line in commands)


def test_the_package_offers_its_commands_alone_and_to_the_application():
    shown = subprocess.run([sys.executable, "-m", "training"], capture_output=True, text=True, check=False)
    whole = CliRunner().invoke(app, ["--help"])
    for name in ("train", "rank-data"):
        assert name in shown.stdout
        assert name in whole.stdout
    assert "calibrate" not in shown.stdout
    assert "Traceback" not in shown.stderr


@pytest.mark.usefixtures("one_thread")
def test_two_processes_of_torchrun_are_one_process_with_the_whole_batch(tiny_model, pictures, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(make_settings(tiny_model, pictures, batch_size=2, accumulate=2, ema=0.5)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "recognizer", "train", str(path), "--output", str(tmp_path / "run"), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("4 steps; encoder: ") == 1  # rank 0 alone prints
    train(make_config(tiny_model, pictures, batch_size=8, ema=0.5), tmp_path / "alone", device="cpu")
    two, one = (Checkpoints(tmp_path / name / "checkpoints", keep=1, run="").newest() for name in ("run", "alone"))
    assert two.state["steps"] == one.state["steps"] == 4
    assert two.has("rank-1")
    assert not one.has("rank-1")
    for name in ("weights", "ema"):
        assert largest_difference(two.tensors(name), one.tensors(name)) < 2e-4
