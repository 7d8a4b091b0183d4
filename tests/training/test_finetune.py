"""Fine-tuning of an open_clip checkpoint, as `configs/train/finetune.yaml` does: its own loss, and slow towers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss

from memory import Memory
from recognizer.encoder import Encoder
from recognizer.encoder.encoder import load_parts, make_spec
from tests.recognizer.commands import call
from tests.training.runs import CPU, first_batch, make_config, make_model, write_model
from training.config import LossConfig
from training.contrastive import LOG_SCALE_LIMIT
from training.engine import Engine
from training.errors import TrainingError
from training.model import GroundedModel
from training.objective import compute_terms

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = Path(__file__).parents[2] / "configs" / "train" / "finetune.yaml"
SCALES = {"softmax": (50.0, None), "sigmoid": (117.0, -16.5)}  # as CLIP's and SigLIP's checkpoints have them


@pytest.fixture(scope="module", params=SCALES)
def checkpoint(request, tmp_path_factory):
    """Its name for `encoder.model`, and its logit scale and bias."""
    scale, bias = SCALES[request.param]
    changes = {"init_logit_scale": math.log(scale)} | ({} if bias is None else {"init_logit_bias": bias})
    return write_model(tmp_path_factory.mktemp("checkpoint") / request.param, **changes), scale, bias


def of_checkpoint(model, pictures, **changes):
    decoder = {"layers": 1, "width": 32, "heads": 2, "feedforward": 32, "dropout": 0.0}
    decoder["anchors"] = {"divisions": 4, "sizes": [2, 3]}
    changes = {"loss": {"kind": "checkpoint"}, "decoder": decoder} | changes
    return make_config(model, pictures, **changes)


def test_training_starts_from_the_scale_and_bias_of_the_checkpoint(checkpoint, pictures):
    name, scale, bias = checkpoint
    model = make_model(of_checkpoint(name, pictures))
    assert model.log_scale.exp().item() == pytest.approx(scale, rel=1e-6)
    assert (None if model.bias is None else model.bias.item()) == bias


def test_the_first_loss_is_the_one_that_open_clip_trains_such_a_checkpoint_with(checkpoint, pictures):
    name, scale, bias = checkpoint
    config = of_checkpoint(name, pictures, batch_size=8)
    model, batch = make_model(config).eval(), first_batch(config)
    assert len(set(batch.captions)) == 8
    with torch.no_grad():
        output = model(batch)
        vectors = output.decoded.image, output.captions
        if bias is None:
            expected = ClipLoss()(*vectors, torch.tensor(scale))
        else:
            expected = SigLipLoss()(*vectors, torch.tensor(scale), torch.tensor(bias))
        terms = compute_terms(
            output,
            batch,
            config.loss,
            wanted=frozenset({"image_text"}),
            log_scale=model.log_scale,
            bias=model.bias,
        )
    assert float(terms["image_text"]) == pytest.approx(float(expected), rel=1e-5)


def test_before_training_images_and_texts_have_the_vectors_of_the_checkpoint(checkpoint, pictures, photos):
    name, *_ = checkpoint
    plain, tuned = (
        Encoder.load(name, device="cpu", precision="fp32"),
        make_model(of_checkpoint(name, pictures)).encoder(),
    )
    cat = [photos / "cat.jpg"]
    np.testing.assert_allclose(tuned.encode_images(cat).image, plain.encode_images(cat).image, atol=1e-6)
    np.testing.assert_allclose(tuned.encode_texts(["a cat"]), plain.encode_texts(["a cat"]), atol=1e-6)


def test_only_the_scale_of_the_softmax_is_limited(checkpoint, pictures):
    name, _, bias = checkpoint
    model = make_model(of_checkpoint(name, pictures))
    with torch.no_grad():
        model.log_scale.fill_(math.log(130))
    model.limit_scale()
    assert model.log_scale.item() == pytest.approx(LOG_SCALE_LIMIT if bias is None else math.log(130))


def test_an_encoder_without_such_a_loss_is_refused(pictures):
    config = make_config("starter", pictures, loss={"kind": "checkpoint"}, text_tower={"lr_share": 0})
    parts = load_parts(make_spec("starter"), device=CPU, precision="fp32")
    with pytest.raises(
        TrainingError, match=r"not trained with a contrastive loss; set loss\.kind to infonce or sigmoid"
    ):
        GroundedModel(parts, config, CPU)


def test_the_kind_in_the_config_wins_over_the_checkpoint(checkpoint, pictures):
    name, *_ = checkpoint
    for kind, bias in (("infonce", None), ("sigmoid", -10.0)):
        model = make_model(make_config(name, pictures, loss={"kind": kind}))
        assert model.log_scale.exp().item() == pytest.approx(LossConfig().logit_scale)
        assert (None if model.bias is None else model.bias.item()) == bias


def test_the_loss_falls_and_the_towers_move_less_than_the_decoder(checkpoint, pictures):
    name, *_ = checkpoint
    shares = {"image_tower": {"lr_share": 0.01}, "text_tower": {"lr_share": 0.01}}
    config = of_checkpoint(name, pictures, batch_size=8, **shares)
    model, batch = make_model(config), first_batch(config)
    before = {name: value.detach().clone() for name, value in model.trained.items()}
    engine = Engine(model.train(), config, CPU, steps_per_epoch=20)
    losses = [engine.step(batch).terms["loss"] for _ in range(20)]
    assert losses[-1] < 0.9 * losses[0]
    moved = dict.fromkeys(("decoder", "image", "text"), 0.0)
    for name, value in model.trained.items():
        part = name.split(".")[0]
        if part in moved:
            moved[part] = max(moved[part], float((value.detach() - before[name]).abs().max()))
    assert 0 < moved["image"] < 0.05 * moved["decoder"]
    assert 0 < moved["text"] < 0.05 * moved["decoder"]


@pytest.mark.parametrize("checkpoint", ["sigmoid"], indirect=True)  # test_configs.py takes the config to a softmax
def test_the_recipe_ends_in_an_encoder_that_build_and_run_take(checkpoint, pictures, photos, tmp_path):
    name, *_ = checkpoint
    settings = [
        f"data.train=[{pictures}]",
        f"encoder.model={name}",
        "batch_size=8",
        "schedule.epochs=1",
        "data.workers=0",
    ]
    chosen = [part for setting in settings for part in ("--set", setting)]
    code, out, err = call("train", str(CONFIG), "--output", str(tmp_path / "run"), "--device", "cpu", *chosen)
    assert code == 0, err
    encoder = tmp_path / "run" / "encoder.safetensors"
    assert f"2 steps; encoder: {encoder}" in out
    (tmp_path / "labels.txt").write_text("red square\ngreen square\n")
    memory = str(tmp_path / "mine.memory")
    assert call("build", str(tmp_path / "labels.txt"), "--memory", memory, "--model", str(encoder))[0] == 0
    assert len(Memory.open(tmp_path / "mine.memory").vectors.categories) == 2
    rows = str(tmp_path / "rows.jsonl")
    assert call("run", str(photos / "cat.jpg"), "--memory", memory, "--output", rows, "--device", "cpu")[0] == 0
    assert '"term":"region_name"' in Path(rows).read_text()
