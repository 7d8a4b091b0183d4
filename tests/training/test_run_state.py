import pytest
import torch

from tests.training.runs import CPU, make_config, make_loader, make_model
from training.checkpoint import Checkpoints
from training.engine import Engine
from training.errors import CheckpointError, DataError
from training.run_state import Progress, RunState, differences

pytestmark = pytest.mark.usefixtures("one_thread")


def make_state(config):
    """The parts of a run before its first step."""
    model, loader = make_model(config).train(), make_loader(config)
    engine = Engine(model, config, CPU, steps_per_epoch=loader.steps_per_epoch)
    return RunState(config, model, engine, loader, Progress(), CPU)


def take_steps(state, count):
    for _, batch in zip(range(count), state.loader, strict=False):
        state.engine.step(batch)


@pytest.fixture
def saved(tiny_model, pictures, tmp_path):
    """A run after three steps, with its checkpoints."""
    state = make_state(make_config(tiny_model, pictures, ema=0.5, decoder={"dropout": 0.3}))
    take_steps(state, 3)
    state.progress.seconds, state.progress.metrics = 7.5, {"development": {"1": {}}}
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, run=state.identity)
    state.save(checkpoints)
    return state, checkpoints


def test_a_restored_run_is_the_saved_one_and_continues_like_it(saved):
    state, checkpoints = saved
    random_state = torch.get_rng_state()
    other = make_state(state.config)
    torch.manual_seed(99)
    other.restore(checkpoints.newest())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert (other.engine.steps, other.progress) == (3, state.progress)
    assert other.loader.state_dict() == state.loader.state_dict()
    take_steps(state, 1)
    torch.set_rng_state(random_state)
    take_steps(other, 1)
    for some, others in (
        (state.model.trained, other.model.trained),
        (state.engine.ema.average, other.engine.ema.average),
    ):
        assert all(torch.equal(value, others[name]) for name, value in some.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optimizer": {"lr": 0.5}, "decoder": {"layers": 2}},
            r"decoder.layers was 1 and is 2; optimizer.lr was 0.001 and is 0.5. Resume with the same config",
        ),
        ({"seed": 1}, "seed was 0 and is 1"),
    ],
)
def test_another_config_is_refused_and_the_differences_are_named(saved, changes, message, tiny_model, pictures):
    settings = {"ema": 0.5, **changes, "decoder": {"dropout": 0.3} | changes.get("decoder", {})}
    other = make_state(make_config(tiny_model, pictures, **settings))
    with pytest.raises(CheckpointError, match=message):
        other.restore(saved[1].newest())


def change_checkpoint(saved, name, changes, **state):
    """Save the newest checkpoint again with other tensors or values."""
    _, checkpoints = saved
    old = checkpoints.newest()
    tensors = {each: old.tensors(each) for each in ("weights", "ema", "optimizer", "rank-0")}
    tensors[name] = {key: value for key, value in (tensors[name] | changes).items() if value is not None}
    checkpoints.save(9, tensors, dict(old.state) | state)
    return checkpoints.newest()


def test_weights_of_another_architecture_are_refused_and_the_differences_are_named(saved):
    changes = {"log_scale": torch.zeros(2), "extra": torch.zeros(1), "decoder.norm.bias": None}
    checkpoint = change_checkpoint(saved, "weights", changes)
    message = (
        r"another architecture: decoder.norm.bias is missing; extra is unknown; log_scale has shape \(2,\), not \(\)$"
    )
    with pytest.raises(CheckpointError, match=message):
        make_state(saved[0].config).restore(checkpoint)


def test_another_encoder_format_or_data_is_refused(saved):
    other = make_state(saved[0].config)
    position = saved[0].loader.state_dict() | {"length": 99}
    with pytest.raises(DataError, match="length was 99 and is 16"):
        other.restore(change_checkpoint(saved, "weights", {}, loader=[position]))
    with pytest.raises(CheckpointError, match=r"fingerprint abc, but the config's now has [0-9a-f]{12}: .* changed"):
        other.restore(change_checkpoint(saved, "weights", {}, base="abc"))
    with pytest.raises(CheckpointError, match="format 'old'"):
        other.restore(change_checkpoint(saved, "weights", {}, format="old"))


def test_a_run_of_two_processes_is_resumed_by_one_with_a_note(saved, capsys):
    positions = [saved[0].loader.state_dict()] * 2
    other = make_state(saved[0].config)
    other.restore(change_checkpoint(saved, "weights", {}, loader=positions))
    assert "with 1 processes instead of 2" in capsys.readouterr().err
    assert other.engine.steps == 3


def test_the_identity_of_a_run_follows_what_a_resumed_run_must_share(tiny_model, pictures):
    def identity(**changes):
        return make_state(make_config(tiny_model, pictures, **changes)).identity

    plain = identity()
    assert identity(schedule={"epochs": 5}, log_every=7, keep_checkpoints=4, save_every_steps=3) == plain
    assert len({plain, identity(seed=1), identity(optimizer={"lr": 0.5}), identity(ema=0.5)}) == 4


def test_differences_are_named_and_harmless_ones_are_not():
    then = {"a": {"b": 1, "c": 2}, "schedule": {"epochs": 3, "warmup_epochs": 1}, "log_every": 1, "decoder": None}
    now = {"a": {"b": 1, "c": 3}, "schedule": {"epochs": 9, "warmup_epochs": 1}, "log_every": 5, "decoder": {"x": 1}}
    assert differences(then, now) == ["a.c was 2 and is 3", "decoder was None and is {'x': 1}"]
