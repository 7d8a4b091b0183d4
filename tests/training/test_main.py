"""The commands: those of `python -m training`, those that texts name, and training on several processes."""

import importlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from recognizer.cli import app
from tests.forked import start_command
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


def by_torchrun(arguments, folder):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "recognizer", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def as_torchrun_does(arguments, folder):
    """Start two processes with the variables that torchrun sets."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    outputs = [folder / f"{rank}.txt" for rank in range(2)]
    processes = [
        start_command(*arguments, output=output, RANK=str(rank), LOCAL_RANK=str(rank), OMP_NUM_THREADS="1", **shared)
        for rank, output in enumerate(outputs)
    ]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return "".join(output.read_text() for output in outputs)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("start", [as_torchrun_does, pytest.param(by_torchrun, marks=pytest.mark.slow)])
def test_two_processes_of_torchrun_are_one_process_with_the_whole_batch(start, tiny_model, pictures, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(make_settings(tiny_model, pictures, batch_size=2, accumulate=2, ema=0.5)))
    shown = start(["train", path, "--output", tmp_path / "run", "--device", "cpu"], tmp_path)
    assert shown.count("4 steps; encoder: ") == 1  # rank 0 alone prints
    train(make_config(tiny_model, pictures, batch_size=8, ema=0.5), tmp_path / "alone", device="cpu")
    two, one = (Checkpoints(tmp_path / name / "checkpoints", keep=1, run="").newest() for name in ("run", "alone"))
    assert two.state["steps"] == one.state["steps"] == 4
    assert two.has("rank-1")
    assert not one.has("rank-1")
    for name in ("weights", "ema"):
        assert largest_difference(two.tensors(name), one.tensors(name)) < 2e-4
