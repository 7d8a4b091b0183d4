"""What `--help` shows: an example that works for each command, and each option in a panel."""

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import typer

from recognizer.cli import app, options
from recognizer.cli.app import PANELS as PANELS_OF_COMMANDS
from tests.recognizer.commands import call

COMMANDS = {
    f"{name} {below}".strip(): found
    for name, command in typer.main.get_command(app).commands.items()
    for below, found in {"": command, **getattr(command, "commands", {})}.items()
}
PANELS = {value for name, value in vars(options).items() if name.isupper()}
LABELS = "name,description\nkingfisher,orange breast\nsnowy owl,yellow eyes\ntabby cat,striped fur\n"
# In the order in which one needs what another writes. The others need a server, many images or minutes.
OFFLINE = ["describe", "build", "add", "info", "verify", "repair", "run", "why", "eval", "embed", "find"]
OFFLINE += ["near-duplicates", "export", "remove", "models", "annotate"]


def examples(command):
    """The arguments of each example in the help of a command, without `recognizer` and its name."""
    lines = re.findall(r"^Example: recognizer (.+)$", inspect.cleandoc(COMMANDS[command].help), re.MULTILINE)
    words = [shlex.split(line) for line in lines]
    depth = len(command.split())
    assert all(each[:depth] == command.split() for each in words)
    return [each[depth:] for each in words]


@pytest.mark.parametrize(("words", "shown"), [([], "build"), (["benchmark", "zero-shot"], "--alpha")])
def test_help_loads_nothing_heavy(words, shown):
    code = (
        f"import sys; sys.argv = ['recognizer', *{words}, '--help']\n"
        "try:\n    from recognizer.cli import main; main()\nfinally:\n"
        "    heavy = {'torch', 'lancedb', 'faiss', 'transformers', 'numpy'} & set(sys.modules)\n"
        "    assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_help_takes_less_than_half_a_second_of_a_processor():
    def seconds():
        process = subprocess.Popen([sys.executable, "-m", "recognizer", "--help"], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return used.ru_utime + used.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help_and_an_example_that_its_parser_takes(command):
    found = COMMANDS[command]
    assert found.help[0].isupper()
    assert all(parameter.help for parameter in found.params)
    assert examples(command)
    for arguments in examples(command):
        with found.make_context(command, list(arguments)):
            pass


def test_commands_stand_in_panels_in_the_order_in_which_a_new_user_needs_them():
    ours = [name for names in PANELS_OF_COMMANDS.values() for name in names]
    commands = typer.main.get_command(app).commands
    of_others = [name for name in commands if name not in ours]
    assert {commands[name].rich_help_panel for name in of_others} == {"Training"}
    lines = re.findall(r"^(?:│ |╭─ )(\S.*?)(?:  | ─)", call("--help")[1], re.MULTILINE)
    expected = [each for panel, names in PANELS_OF_COMMANDS.items() for each in (panel, *names)]
    assert [line.split("  ")[0] for line in lines[lines.index("Recognise") :]] == [*expected, "Training", *of_others]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_stands_in_a_panel(command):
    options_of = [parameter for parameter in COMMANDS[command].params if parameter.param_type_name == "option"]
    assert {option.name: option.rich_help_panel for option in options_of if option.rich_help_panel not in PANELS} == {}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_shows_every_option_and_panel_in_the_width_of_the_terminal(command, width, monkeypatch):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", width)
    code, out, _ = call(*command.split(), "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= width
    for parameter in COMMANDS[command].params:
        if parameter.param_type_name == "option":
            assert max(parameter.opts, key=len) in out
            assert f"─ {parameter.rich_help_panel} ─" in out


def test_the_examples_run(tmp_path, photos, monkeypatch):
    (tmp_path / "labels.csv").write_text(LABELS)
    (tmp_path / "more.csv").write_text("name\nbarn owl\n")
    (tmp_path / "photos").mkdir()
    shutil.copy(photos / "cat.jpg", tmp_path / "photos" / "kingfisher.jpg")
    for label in ("kingfisher", "snowy owl", "tabby cat"):
        (tmp_path / "labelled" / label).mkdir(parents=True)
        for name in ("cat", "coffee"):
            shutil.copy(photos / f"{name}.jpg", tmp_path / "labelled" / label)
    annotations = {
        "images": [{"id": 1, "file_name": "kingfisher.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 90, 90]}],
        "categories": [{"id": 1, "name": "tabby cat"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    monkeypatch.chdir(tmp_path)
    for command in OFFLINE:
        for arguments in examples(command):
            assert call(command, *arguments)[0] == 0, (command, arguments)
    written = {path.name for path in tmp_path.iterdir()}
    assert {
        "birds.memory",
        "birds.jsonl",
        "results.jsonl",
        "table.csv",
        "evidence",
        "why.png",
        "recall.csv",
        "objects.json",
    } <= written
