import shutil

import pytest
import torch

from training.checkpoint import Checkpoints


def save(folder, *steps, keep=9):
    checkpoints = Checkpoints(folder, keep=keep)
    for step in steps:
        checkpoints.save(step, {"weights": {"a": torch.full((3,), float(step))}}, {"steps": step})
    return checkpoints


def test_the_newest_is_read_back(tmp_path):
    found = save(tmp_path, 2, 10, 9).newest()
    assert found.state["steps"] == 10
    assert found.tensors("weights")["a"].tolist() == [10, 10, 10]
    assert found.has("weights")
    assert not found.has("ema")
    assert Checkpoints(tmp_path / "none", keep=1).newest() is None


def test_only_the_newest_few_are_kept_and_a_step_can_be_saved_again(tmp_path):
    save(tmp_path, 1, 2, 3, 3, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_a_draft_that_a_kill_left_is_skipped_and_deleted(tmp_path):
    checkpoints = save(tmp_path, 1)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / "step-00000002.part")
    assert checkpoints.newest().state["steps"] == 1
    save(tmp_path, 3)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("damage", ["cut", "flip", "state", "gone"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(tmp_path, capsys, damage):
    checkpoints = save(tmp_path, 1, 2)
    weights, state = (tmp_path / "step-00000002" / name for name in ("weights.safetensors", "state.json"))
    content = weights.read_bytes()
    match damage:
        case "cut":
            weights.write_bytes(content[:-1])
        case "flip":
            weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "state":
            state.write_text(state.read_text()[:-9])
        case "gone":
            weights.unlink()
    assert checkpoints.newest().state["steps"] == 1
    assert "step-00000002 is damaged and skipped" in capsys.readouterr().err
