import hashlib
import json
import os
import random
import shutil
import sys

import pytest
import torch

from training.checkpoint import Checkpoint, Checkpoints
from training.errors import CheckpointError, TrainingError

SAVED = {"weights": {"a": torch.zeros(3)}, "optimizer": {"b": torch.zeros(5)}}
SEED = 12  # of the fuzz


def tensors(step):
    return {name: {key: value + step for key, value in part.items()} for name, part in SAVED.items()}


def save(folder, *steps, keep=9, run="this"):
    checkpoints = Checkpoints(folder, keep=keep, run=run)
    for step in steps:
        checkpoints.save(step, tensors(step), {"steps": step, "metrics": {"1": {"loss": 0.25}}})
    return checkpoints


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_is(checkpoint, step):
    assert checkpoint.state["steps"] == step
    assert all(checkpoint.tensors(name)[key][0] == step for name, part in SAVED.items() for key in part)


def test_the_newest_is_read_back(tmp_path, capsys):
    found = save(tmp_path, 2, 10, 9).newest()
    assert_is(found, 10)
    assert found.has("weights")
    assert not found.has("ema")
    assert Checkpoints(tmp_path / "none", keep=1, run="this").newest() is None
    assert not capsys.readouterr().err


def test_only_the_newest_few_are_kept_and_a_step_can_be_saved_again(tmp_path):
    save(tmp_path, 1, 2, 3, 3, keep=2)
    assert names(tmp_path) == ["step-00000002", "step-00000003"]


def test_a_draft_that_a_kill_left_is_skipped_and_deleted(tmp_path, capsys):
    checkpoints = save(tmp_path, 1)
    draft = tmp_path / "step-00000002.part"
    shutil.copytree(tmp_path / "step-00000001", draft)
    (draft / "state.json").unlink()
    assert_is(checkpoints.newest(), 1)
    save(tmp_path, 3)
    assert names(tmp_path) == ["step-00000001", "step-00000003"]
    assert not capsys.readouterr().err


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_one_flipped_bit_or_cut_anywhere_is_seen_and_the_newest_intact_one_is_taken(tmp_path, capsys):
    checkpoints = save(tmp_path, 1, 2)
    rng = random.Random(SEED)
    for path in files(tmp_path / "step-00000002"):
        content = path.read_bytes()
        places = [rng.randrange(8 * len(content)) for _ in range(50)]
        damaged = [
            content[: at // 8] + bytes([content[at // 8] ^ 1 << at % 8]) + content[at // 8 + 1 :] for at in places
        ]
        damaged += [content[: rng.randrange(len(content))] for _ in range(10)] + [b"", content + b"\n"]
        for case in damaged:
            path.write_bytes(case)
            assert_is(checkpoints.newest(), 1)
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert "left out: step-00000002 (" in said
            assert path.name in said
            assert "; step-00000001 is used" in said
        path.unlink()
        assert_is(checkpoints.newest(), 1)
        assert path.name in capsys.readouterr().err
        path.write_bytes(content)
    assert_is(checkpoints.newest(), 2)


def foreign(folder, kind):
    """Put something with the name of a newer checkpoint in the folder, and return its path."""
    path = folder / "step-00000099"
    match kind:
        case "empty folder":
            path.mkdir()
        case "file":
            path.write_text("notes")
        case "link":
            path.symlink_to(shutil.copytree(folder / "step-00000001", folder.with_name("elsewhere")))
        case "another run":
            save(folder, 99, run="another")
        case "damaged":
            save(folder, 99)
            (path / "weights.safetensors").write_bytes(b"")
        case "first format":
            path.mkdir()
            (path / "state.json").write_text('{"format": "recognizer-training-1", "files": {}, "steps": 99}')
        case "deep":
            path.mkdir()
            (path / "state.json").write_text("[" * 100_000)
    return path


FOREIGN = ["empty folder", "file", "link", "another run", "damaged", "first format", "deep"]


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_an_intact_checkpoint_of_this_run_is_not_counted_used_or_deleted(tmp_path, capsys, kind):
    tmp_path = tmp_path / "run"
    save(tmp_path, 1)
    path = foreign(tmp_path, kind)
    before = {file: file.read_bytes() for file in files(path)}
    checkpoints = save(tmp_path, 2, 3, 4, keep=2)
    assert names(tmp_path) == ["step-00000003", "step-00000004", "step-00000099"]
    assert {file: file.read_bytes() for file in files(path)} == before
    assert_is(checkpoints.newest(), 4)
    assert "left out: step-00000099 (" in capsys.readouterr().err


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_stands_in_the_way_of_a_checkpoint_is_renamed(tmp_path, capsys, kind):
    tmp_path = tmp_path / "run"
    save(tmp_path, 1)
    path = foreign(tmp_path, kind)
    checkpoints = save(tmp_path, 99)
    assert_is(checkpoints.newest(), 99)
    assert os.path.lexists(tmp_path / f"{path.name}.aside-1")
    assert "it is now step-00000099.aside-1" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["step-00000099.part", "step-00000099.old", "step-7", "mine.part", "step-x"])
def test_folders_of_other_content_or_names_stay(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("x")
    save(tmp_path, 1, 2, 3, keep=1)
    assert (tmp_path / name / "thesis.txt").read_text() == "x"


def test_without_a_checkpoint_of_this_run_the_newest_of_another_is_returned_for_comparison(tmp_path):
    save(tmp_path, 1, 2, run="another")
    found = Checkpoints(tmp_path, keep=1, run="this").newest()
    assert (found.run, found.state["steps"]) == ("another", 2)


def test_if_all_are_damaged_the_run_does_not_start_over(tmp_path):
    checkpoints = save(tmp_path, 1, 2)
    for path in tmp_path.glob("*/state.json"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"none of the .* step-00000002 \(state.json is damaged\), step-0000000"):
        checkpoints.newest()


def test_a_name_outside_the_folder_is_not_read(tmp_path):
    """A checkpoint from somebody else may list any path, under a hash that is right."""
    save(tmp_path / "run", 1)
    (tmp_path / "secret").touch()
    body = {"run": "this", "files": {"../../secret": [0, hashlib.sha256(b"").hexdigest()]}, "state": {}}
    seal = hashlib.sha256(json.dumps(body, indent=1).encode() + b"\n").hexdigest()
    sealed = json.dumps({**body, "sha256": seal}, indent=1) + "\n"
    (tmp_path / "run" / "step-00000001" / "state.json").write_text(sealed)
    with pytest.raises(CheckpointError, match=r"^\.\./\.\./secret is missing"):
        Checkpoint.read(tmp_path / "run" / "step-00000001")


def test_a_disk_that_refuses_is_a_sentence_and_leaves_no_draft(tmp_path, monkeypatch):
    checkpoints = save(tmp_path, 1)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.checkpoint.save_file", refuse)
    with pytest.raises(TrainingError, match=r"step-00000002 cannot be written: No space left on device\. Earlier"):
        checkpoints.save(2, tensors(2), {})
    assert names(tmp_path) == ["step-00000001"]


def test_a_draft_that_a_kill_left_while_tensors_were_written_is_deleted(tmp_path, capsys):
    checkpoints = save(tmp_path, 1)
    draft = tmp_path / "step-00000002.part"
    draft.mkdir()
    (draft / ".tmpa1B2c3").write_bytes(b"half a ten")
    checkpoints.save(2, tensors(2), {"steps": 2})
    assert names(tmp_path) == ["step-00000001", "step-00000002"]
    assert not capsys.readouterr().err


_CHANGES = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree")


def killed_at(event, action):
    """Do something in a child process that dies just before the given change to the disk; tell whether it died."""
    child = os.fork()
    if not child:
        seen = 0

        def count(name, arguments):
            nonlocal seen
            # Reading changes nothing; `open` has the flags third.
            if name in _CHANGES and not (name == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)):
                seen += 1
                if seen > event:
                    os._exit(9)

        sys.addaudithook(count)
        try:
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("step", [2, 1], ids=["another step", "the same step again"])
def test_a_kill_at_every_change_to_the_disk_leaves_a_loadable_checkpoint(tmp_path, capsys, step):
    event, died = 0, True
    while died:
        folder = tmp_path / str(event)
        checkpoints = save(folder, 1, keep=1)
        died = killed_at(event, lambda checkpoints=checkpoints: checkpoints.save(step, tensors(step), {"steps": step}))
        newest = checkpoints.newest()
        assert_is(newest, newest.state["steps"])
        assert newest.state["steps"] in (1, step)
        if event % 2:  # a second kill, while the next save clears up
            killed_at(event + 1, lambda checkpoints=checkpoints: checkpoints.save(3, tensors(3), {"steps": 3}))
            assert_is(checkpoints.newest(), checkpoints.newest().state["steps"])
        checkpoints.save(3, tensors(3), {"steps": 3})
        assert names(folder) == ["step-00000003"]
        event += 1
    assert event > 8
    assert not capsys.readouterr().err
