import math
import os

import pytest
import torch
from torch import distributed
from torch.overrides import TorchFunctionMode

from tests.training.ranks import on_two_ranks
from tests.training.runs import CPU, first_batch, gradients, largest_difference, make_config, make_loader, make_model
from training.engine import Ema, Engine, learning_rate, make_optimizer
from training.errors import TrainingError

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = ["infonce", "sigmoid"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text_share", [0.0, 0.5])
def test_parts_give_the_gradient_of_the_whole_batch(tiny_model, pictures, kind, text_share):
    changes = {"loss": {"kind": kind, "queries_per_box": 2}, "text_tower": {"lr_share": text_share}}
    whole = make_config(tiny_model, pictures, batch_size=8, **changes)
    parts = make_config(tiny_model, pictures, batch_size=2, accumulate=4, **changes)
    batch = first_batch(whole)
    assert batch.keys == first_batch(parts).keys
    terms, expected = gradients(whole, batch)
    again, found = gradients(parts, batch)
    assert again == pytest.approx(terms, rel=1e-5)
    assert set(terms) == {"image_text", "region_description", "box_l1", "box_giou", "region_weight", "loss"}
    assert largest_difference(found, expected) < 1e-6
    moving = [name for name, value in expected.items() if value.abs().max() > 1e-5]
    assert {name.split(".")[0] for name in moving} >= {"decoder", "image", "log_scale"}
    assert any(name.startswith("text.") for name in moving) == (text_share > 0)


def test_parts_draw_the_same_dropout_in_both_passes(tiny_model, pictures):
    config = make_config(tiny_model, pictures, batch_size=2, accumulate=4, decoder={"dropout": 0.5})
    batch = first_batch(config)
    model = make_model(config).train()
    engine = Engine(model, config, CPU, steps_per_epoch=10)
    seen = []

    def note_regions(_module, _inputs, output):
        seen.append(output.decoded.regions.detach())

    model.register_forward_hook(note_regions)
    engine.backward(batch)
    assert len(seen) == 8
    for once, again in zip(seen[:4], seen[4:], strict=True):
        assert torch.equal(once, again)
    assert not torch.equal(seen[0], make_model(config).eval()(batch.part(0, 2)).decoded.regions)


def test_a_batch_without_boxes_teaches_the_images(tiny_model, pictures):
    config = make_config(tiny_model, pictures, accumulate=2)
    batch = first_batch(config)
    batch.box_mask[:] = False
    bare = batch.part(0, len(batch))
    object.__setattr__(bare, "descriptions", [])
    object.__setattr__(bare, "description_box", torch.zeros(0, 2, dtype=torch.int64))
    terms, found = gradients(config, bare)
    assert terms["box_l1"] == terms["box_giou"] == terms["region_description"] == terms["region_weight"] == 0
    assert all(bool(value.isfinite().all()) for value in found.values())
    assert found["image.conv1.weight"].abs().max() > 0


def test_weights_that_the_loss_never_sees_are_not_decayed(tiny_model, pictures):
    config = make_config(tiny_model, pictures, optimizer={"weight_decay": 0.5, "lr": 0.1, "start_lr": 0.1})
    model = make_model(config).train()
    before = {name: value.detach().clone() for name, value in model.trained.items()}
    Engine(model, config, CPU, steps_per_epoch=10).step(first_batch(config))
    still = {name for name, value in model.trained.items() if torch.equal(value, before[name])}
    assert "image.proj" in still  # GRAIN's image vector comes from the decoder
    assert "image.conv1.weight" not in still


TWO_RANKS = {
    "infonce": {"batch_size": 2, "accumulate": 2},
    "sigmoid": {"batch_size": 2, "accumulate": 2, "loss": {"kind": "sigmoid"}},
    "whole": {"batch_size": 4},
    "frozen image tower": {"batch_size": 4, "image_tower": {"lr_share": 0.0}},
    "bf16": {"batch_size": 4, "amp": "bf16"},
}


def work_as_one_of_two_ranks(place, folder, model, pictures):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=place, world_size=2)
    for name, changes in TWO_RANKS.items():
        config = make_config(model, pictures, **changes)
        terms, found = gradients(config, first_batch(config, rank=place, ranks=2))
        torch.save((terms, found), folder / f"{name}-{place}.pt")
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)  # torch's threads now and then abort a process that ends by tearing down the interpreter


def test_two_ranks_are_one_process_with_the_whole_batch(tiny_model, pictures, tmp_path):
    on_two_ranks(work_as_one_of_two_ranks, tmp_path, tiny_model, pictures)
    for name, changes in TWO_RANKS.items():
        config = make_config(tiny_model, pictures, **changes | {"batch_size": 8, "accumulate": 1})
        terms, expected = gradients(config, first_batch(config))
        # bf16 sums the products of a batch in other orders than those of its halves
        precise, near = (1e-2, 3e-2) if "amp" in changes else (1e-5, 1e-6)
        for place in range(2):
            again, found = torch.load(tmp_path / f"{name}-{place}.pt", weights_only=True)
            assert again == pytest.approx(terms, rel=precise), name
            assert largest_difference(found, expected) < near, name


class HostReads(TorchFunctionMode):
    """Notes where numbers of a tensor are read; token ids, which are whole numbers, are made on the host."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in {"item", "tolist", "numpy", "cpu", "__float__", "__bool__"} and args[0].dtype != torch.int64:
            self.names.append(name)
        return function(*args, **kwargs or {})


def test_a_step_waits_for_the_device_once(tiny_model, pictures):
    config = make_config(tiny_model, pictures, ema=0.9)
    batch, engine = first_batch(config), Engine(make_model(config).train(), config, CPU, steps_per_epoch=10)
    with HostReads() as reads:
        engine.backward(batch)
    assert not reads.names
    with HostReads() as reads:
        engine.step(batch)
    assert reads.names == ["tolist"]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_samples(tiny_model, pictures):
    config = make_config(tiny_model, pictures)
    model = make_model(config)
    batch = first_batch(config)
    with torch.no_grad():
        model.log_scale.fill_(math.nan)
    with pytest.raises(
        TrainingError, match=r"not finite after step 0: image_text nan, .*box_l1 0\.\d+.*" + batch.keys[0]
    ):
        Engine(model, config, CPU, steps_per_epoch=10).step(batch)


def test_the_learning_rate_warms_up_and_follows_a_cosine(tiny_model, pictures):
    optimizer = {"lr": 1.0, "start_lr": 0.1, "min_lr": 0.2}
    config = make_config(tiny_model, pictures, optimizer=optimizer, schedule={"epochs": 5, "warmup_epochs": 0.5})
    rates = [learning_rate(step, config, 4) for step in range(21)]
    assert rates[:3] == pytest.approx([0.1, 0.55, 1.0])
    assert rates[11] == pytest.approx(0.6)
    assert rates[20] == pytest.approx(0.2)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    steps = config.model_copy(update={"schedule": config.schedule.model_copy(update={"warmup_steps": 4})})
    assert learning_rate(2, steps, 4) == pytest.approx(0.55)


def test_weights_are_decayed_and_shares_kept_apart(tiny_model, pictures):
    config = make_config(tiny_model, pictures, image_tower={"lr_share": 0.1}, optimizer={"weight_decay": 0.3})
    model = make_model(config)
    name_of = {id(parameter): name for name, parameter in model.trained.items()}
    groups = {
        name_of[id(parameter)]: (group["lr_share"], group["weight_decay"])
        for group in make_optimizer(model, config).param_groups
        for parameter in group["params"]
    }
    assert groups.keys() == model.trained.keys()
    assert groups["decoder.layers.0.self_attention.in_proj_weight"] == (1, 0.3)
    assert groups["image.conv1.weight"] == (0.1, 0.3)
    assert groups["text.token_embedding.weight"] == (0.5, 0.3)
    bare = ["decoder.norm.weight", "decoder.box_head.0.bias", "log_scale"]
    assert [groups[name] for name in bare] == [(1, 0)] * 3
    assert groups["image.ln_post.weight"] == (0.1, 0)


def test_the_average_follows_its_formula_and_gives_the_weights_back():
    weights = {"a": torch.tensor([1.0, 2.0])}
    ema = Ema(weights, 0.75)
    for value, steps in ((5.0, 1), (-3.0, 100)):
        weights["a"].fill_(value)
        ema.update(steps)
    after_one = 2 / 11 * torch.tensor([1.0, 2.0]) + 9 / 11 * 5  # the first averages follow quickly
    expected = 0.75 * after_one + 0.25 * -3
    assert torch.allclose(ema.average["a"], expected)
    with ema.in_place():
        assert torch.allclose(weights["a"], expected)
    assert weights["a"].tolist() == [-3, -3]


def test_a_handful_of_samples_is_learned_by_heart(tiny_model, pictures):
    changes = {"optimizer": {"lr": 3e-3, "weight_decay": 0.0}, "schedule": {"epochs": 1}}
    config = make_config(tiny_model, pictures, batch_size=8, **changes)
    batch = first_batch(config)
    model = make_model(config).train()
    engine = Engine(model, config, CPU, steps_per_epoch=100)
    steps = [engine.step(batch).terms for _ in range(100)]
    for name, share in {"loss": 0.4, "image_text": 0.3, "region_description": 0.3, "box_l1": 0.5}.items():
        assert steps[-1][name] < share * steps[0][name], name


def test_the_scale_is_held_to_one_hundred(tiny_model, pictures):
    config = make_config(tiny_model, pictures, loss={"logit_scale": 100.0}, optimizer={"lr": 0.5, "clip_norm": None})
    model = make_model(config)
    engine = Engine(model, config, CPU, steps_per_epoch=10)
    loader = make_loader(config)
    assert max(engine.step(batch).logit_scale for batch in loader) <= 100 + 1e-4


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_half_precision_stays_near_full_and_keeps_boxes_in_float32(tiny_model, pictures, amp):
    full = make_config(tiny_model, pictures)
    batch = first_batch(full)
    half = make_config(tiny_model, pictures, amp=amp)
    model = make_model(half)
    engine = Engine(model, half, CPU, steps_per_epoch=10)
    kinds = set()

    def note_kinds(_module, _inputs, output):
        kinds.update(tensor.dtype for tensor in output.tensors())

    model.register_forward_hook(note_kinds)
    terms = engine.step(batch).terms
    assert terms == pytest.approx(gradients(full, batch)[0], rel=0.05)
    assert kinds == {torch.float32}
    assert all(parameter.dtype == torch.float32 for parameter in model.trained.values())


@pytest.mark.gpu
@pytest.mark.parametrize(("amp", "near"), [("off", 1e-3), ("bf16", 5e-2)])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gpu_has_the_gradients_of_the_cpu(tiny_model, pictures, cuda, amp, near, accumulate):
    whole = make_config(tiny_model, pictures, batch_size=8)
    batch = first_batch(whole)
    terms, expected = gradients(whole, batch)
    config = make_config(tiny_model, pictures, batch_size=8 // accumulate, accumulate=accumulate, amp=amp)
    again, found = gradients(config, batch, device=torch.device(cuda))
    assert again == pytest.approx(terms, rel=near)
    assert largest_difference(found, expected) < near


@pytest.mark.gpu
@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_gpu_learns(tiny_model, pictures, cuda, amp):
    config = make_config(tiny_model, pictures, batch_size=8, amp=amp, ema=0.9)
    device = torch.device(cuda)
    engine = Engine(make_model(config, device).train(), config, device, steps_per_epoch=60)
    batch = first_batch(config)
    losses = [engine.step(batch).terms["loss"] for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]


def test_checkpointed_activations_change_no_gradient(tiny_model, pictures):
    plain, saving = (make_config(tiny_model, pictures, activation_checkpointing=on) for on in (False, True))
    batch = first_batch(plain)
    assert largest_difference(gradients(plain, batch)[1], gradients(saving, batch)[1]) < 1e-6


@pytest.mark.parametrize("amp", ["off", "fp16"])
def test_a_gradient_that_is_not_finite_stops_the_run_unless_fp16_overflowed(tiny_model, pictures, amp):
    config = make_config(tiny_model, pictures, amp=amp)
    model = make_model(config).train()
    engine = Engine(model, config, CPU, steps_per_epoch=10)
    model.decoder.norm.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = {name: value.detach().clone() for name, value in model.trained.items()}
    if amp == "off":
        with pytest.raises(TrainingError, match="the gradient is not finite after step 0: image_text"):
            engine.step(first_batch(config))
    else:
        assert not math.isfinite(engine.step(first_batch(config)).grad_norm)
        assert all(torch.equal(value, before[name]) for name, value in model.trained.items())
