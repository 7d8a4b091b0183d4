import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from recognizer.encoder import Encoder
from recognizer.encoder.encoder import load_parts, make_spec
from recognizer.encoder.starter.starter import GROUNDED_FILE
from recognizer.encoder.trained_file import TrainedFile
from tests.training.runs import CPU, SIZE, first_batch, make_config, make_loader, make_model, write_model
from training.engine import Engine
from training.errors import TrainingError
from training.model import GroundedModel

pytestmark = pytest.mark.usefixtures("one_thread")
FROZEN = {"image_tower": {"lr_share": 0}, "text_tower": {"lr_share": 0}}


def take_steps(config, count=3):
    """Train; return the model, and all weights and statistics of the towers, trained or not, before and after."""
    torch.manual_seed(0)
    parts = load_parts(make_spec(config.encoder.model, config.encoder.pretrained), device=CPU, precision="fp32")
    model = GroundedModel(parts, config, CPU).train()
    before = {name: value.clone() for name, value in tower_values(parts).items()}
    engine = Engine(model, config, CPU, steps_per_epoch=10)
    for _, batch in zip(range(count), make_loader(config), strict=False):
        engine.step(batch)
    return model, before, tower_values(parts)


def tower_values(parts):
    towers = {"image": parts.image_tower.network, "text": parts.text_tower.network}
    return {f"{part}.{name}": value for part, tower in towers.items() for name, value in tower.state_dict().items()}


@pytest.mark.parametrize(("image", "text"), [(0, 0), (1, 0), (0, 1)])
def test_frozen_towers_stay_as_they_are_to_the_last_bit(tiny_model, pictures, image, text):
    config = make_config(tiny_model, pictures, image_tower={"lr_share": image}, text_tower={"lr_share": text})
    model, before, after = take_steps(config)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    learning = {name for name, share in (("image", image), ("text", text)) if share}
    assert {name.split(".")[0] for name in changed} == learning
    assert {name.split(".")[0] for name in model.trained} == {"decoder", "log_scale"} | learning


def test_statistics_of_batch_norms_stay(tmp_path, pictures):
    vision = {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
    model = write_model(tmp_path / "resnet", vision_cfg=vision)
    config = make_config(model, pictures, text_tower={"lr_share": 0})
    model, before, after = take_steps(config)
    statistics = [name for name in before if "running" in name or "num_batches" in name]
    assert len(statistics) > 9
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    assert not torch.equal(before["image.conv1.weight"], after["image.conv1.weight"])
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))


def test_the_saved_encoder_gives_the_vectors_of_the_live_one(tiny_model, pictures, tmp_path):
    model, *_ = take_steps(make_config(tiny_model, pictures))
    model.eval()
    live, file = model.encoder(), tmp_path / "trained.safetensors"
    file.write_bytes(model.to_file({"steps": 3}).to_bytes())
    loaded = Encoder.load(str(file), device="cpu", precision="fp32")
    shown = [Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))]
    ours, theirs = live.encode_images(shown), loaded.encode_images(shown)
    np.testing.assert_allclose(theirs.image, ours.image, atol=2e-3)  # the file is in float16
    np.testing.assert_allclose(theirs.regions, ours.regions, atol=2e-3)
    np.testing.assert_allclose(theirs.boxes_xyxy, ours.boxes_xyxy, atol=0.2)
    texts = ["a red square", "blue"]
    np.testing.assert_allclose(loaded.encode_texts(texts), live.encode_texts(texts), atol=2e-3)
    base = Encoder.load(tiny_model, device="cpu", precision="fp32")
    assert np.abs(base.encode_texts(texts) - live.encode_texts(texts)).max() > 1e-2
    assert len({live.card.fingerprint, base.card.fingerprint}) == 2


def test_the_baseline_is_the_towers_own_image_vector(tiny_model, pictures):
    config = make_config(tiny_model, pictures, decoder=None)
    batch = first_batch(config)
    output = make_model(config).eval()(batch)
    base = Encoder.load(tiny_model, device="cpu", precision="fp32")
    images = [Image.fromarray(pixels.permute(1, 2, 0).numpy()) for pixels in batch.pixels]
    np.testing.assert_allclose(output.decoded.image.detach().numpy(), base.encode_images(images).image, atol=1e-5)
    assert output.decoded.regions.shape[1] == 0
    model, before, after = take_steps(config)
    assert not torch.equal(before["image.proj"], after["image.proj"])
    assert model.to_file({}).decoder is None


def test_training_goes_on_from_a_trained_encoder_with_its_decoder(tiny_model, pictures, tmp_path, capsys):
    first, *_ = take_steps(make_config(tiny_model, pictures))
    file = tmp_path / "trained.safetensors"
    file.write_bytes(first.to_file({}).to_bytes())
    again = make_model(make_config(str(file), pictures))
    name = "decoder.box_head.0.weight"
    torch.testing.assert_close(again.trained[name], first.trained[name], atol=1e-3, rtol=1e-3)
    assert "a new one is trained" not in capsys.readouterr().err
    other = make_model(make_config(str(file), pictures, decoder={"layers": 2}))
    assert not torch.allclose(other.trained[name], first.trained[name], atol=1e-3)
    assert "a new one is trained" in capsys.readouterr().err


def test_training_goes_on_with_a_decoder_whose_results_are_used_otherwise(tiny_model, pictures, tmp_path):
    first, *_ = take_steps(make_config(tiny_model, pictures))
    file = tmp_path / "trained.safetensors"
    file.write_bytes(first.to_file({}).to_bytes())
    again = make_model(make_config(str(file), pictures, decoder={"counts_from": 0.3, "vote_overlap": 0.4}))
    name = "decoder.box_head.0.weight"
    torch.testing.assert_close(again.trained[name], first.trained[name], atol=1e-3, rtol=1e-3)
    settings = again.to_file({}).decoder
    assert (settings.counts_from, settings.vote_overlap) == (0.3, 0.4)


def test_a_trained_starter_stands_on_the_untrained_one(pictures):
    shape = TrainedFile.read(GROUNDED_FILE).decoder.model_dump(mode="json")
    shape["counts_from"] = 0.25
    model = make_model(make_config("starter", pictures, decoder=shape, **FROZEN))
    made = model.to_file({})
    assert made.base["settings"]["pretrained"] == "conse"
    assert made.decoder.counts_from == model.decoder.settings.counts_from == 0.25
    shipped = TrainedFile.read(GROUNDED_FILE)
    assert made.text_classifiers == shipped.text_classifiers
    assert made.tensors.keys() == shipped.tensors.keys()
    assert all(torch.equal(made.tensors[name], value) for name, value in shipped.tensors.items())


def test_a_text_tower_that_cannot_be_trained_is_refused(pictures):
    with pytest.raises(TrainingError, match=r"the text tower of starter.* cannot be trained; set text_tower\.lr_share"):
        make_model(make_config("starter", pictures, image_tower={"lr_share": 0}))


@pytest.mark.parametrize("pretrained", ["conse", "grounded"])  # the second one inside extended towers
def test_a_tower_that_calls_its_blocks_itself_refuses_checkpointing(pictures, pretrained):
    changes = {"image_tower": {"lr_share": 0.5}, "text_tower": {"lr_share": 0}, "activation_checkpointing": True}
    with pytest.raises(TrainingError, match=r"the image tower of starter .* has no activation_checkpointing"):
        make_model(make_config("starter", pictures, encoder={"pretrained": pretrained}, **changes))


def test_the_model_has_no_part_of_a_frozen_encoder(tiny_model, pictures):
    model = make_model(make_config(tiny_model, pictures, **FROZEN))
    assert isinstance(model, GroundedModel)
    assert {name.split(".")[0] for name in model.state_dict()} == {"decoder", "log_scale"}
