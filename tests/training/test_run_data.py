import pickle

import pytest
import torch

from recognizer.encoder.trained_file import TrainedFile
from tests.training.runs import CPU, PREPROCESSING, make_config, make_model, write_data
from training.errors import TrainingError
from training.run import train
from training.run_data import make_loader

pytestmark = pytest.mark.usefixtures("one_thread")
FROZEN = {"image_tower": {"lr_share": 0}, "text_tower": {"lr_share": 0}}


def test_a_cached_run_learns_and_resumes_without_its_pictures(tiny_model, tmp_path):
    data = write_data(tmp_path / "data")
    config = make_config(tiny_model, data, data={"cache": str(tmp_path / "cache")}, schedule={"epochs": 1}, **FROZEN)
    train(config, tmp_path / "run", device="cpu")
    for picture in data.parent.glob("*.png"):
        picture.unlink()
    longer = config.model_copy(update={"schedule": config.schedule.model_copy(update={"epochs": 2})})
    assert train(longer, tmp_path / "run", device="cpu").steps == 8
    tensors = TrainedFile.read(tmp_path / "run" / "encoder.safetensors").tensors
    assert {name.split(".")[0] for name in tensors} == {"decoder"}


def test_pictures_come_without_a_cache_and_tower_outputs_with_one(tiny_model, pictures, tmp_path):
    plain = make_config(tiny_model, pictures, batch_size=2, accumulate=3, **FROZEN)
    model = make_model(plain).eval()
    batch = next(iter(make_loader(plain, model, PREPROCESSING, CPU)))
    assert (len(batch), batch.cached, batch.pixels.shape[1:], batch.tokens) == (6, None, (3, 32, 32), {})
    cached = make_config(tiny_model, pictures, data={"cache": str(tmp_path)}, batch_size=2, accumulate=3, **FROZEN)
    again = next(iter(make_loader(cached, model, PREPROCESSING, CPU)))
    assert again.keys == batch.keys
    expected = model.read_images(batch.pixels).tokens
    torch.testing.assert_close(again.cached.tokens.float(), expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("workers", [0, 1])
def test_texts_of_a_tower_that_learns_come_with_their_tokens(tiny_model, pictures, workers):
    config = make_config(tiny_model, pictures, batch_size=2, data={"workers": workers}, text_tower={"lr_share": 0.1})
    model = make_model(config)
    batch = next(iter(make_loader(config, model, PREPROCESSING, CPU)))
    texts = {*batch.captions, *batch.descriptions}
    assert batch.tokens == {text: model.tokenize([text])[0] for text in texts}
    assert b"Parameter" not in pickle.dumps(model.tokenize)  # weights are not for the processes that load data
    assert batch.part(0, 1).tokens == batch.tokens


def test_a_cache_without_a_decoder_is_refused(tiny_model, pictures, tmp_path):
    changes = {"decoder": None, "image_tower": {"lr_share": 0}, "text_tower": {"lr_share": 1}}
    config = make_config(tiny_model, pictures, data={"cache": str(tmp_path)}, **changes)
    with pytest.raises(TrainingError, match=r"decoder is null; leave data\.cache out"):
        make_loader(config, make_model(config), PREPROCESSING, CPU)
