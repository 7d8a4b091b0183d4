from collections.abc import Iterator

import pytest
import yaml
from pydantic import BaseModel

from recognizer.yaml_settings import SettingsError, load_yaml_settings
from tests.training.runs import make_config, make_settings
from training.config import TrainConfig


def load(tmp_path, overrides=(), **changes):
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(make_settings("tiny", "train.jsonl", **changes)))
    return load_yaml_settings(TrainConfig, path, overrides)


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from models(kind)


def test_every_setting_says_what_it_is():
    for model in models(TrainConfig):
        if model.__module__ == "training.config":
            assert model.model_config["extra"] == "forbid"
            assert model.model_config["frozen"]
            undescribed = [name for name, field in model.model_fields.items() if not field.description]
            assert not undescribed, (model, undescribed)


def test_overrides_win_and_numbers_may_be_written_as_in_papers(tmp_path):
    config = load(tmp_path, ["optimizer.lr=1e-4", "decoder.layers=2", "ema=0.99", "amp=off", "data.train=[a.tar, b]"])
    assert config.optimizer.lr == 1e-4
    assert (config.decoder.layers, config.decoder.heads) == (2, 2)
    assert config.amp == "off"
    assert [path.name for path in config.data.train] == ["a.tar", "b"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1", r"unknown setting `optimizer.lrr`; known here: lr, start_lr"),
        ("decoder.depth=1", r"unknown setting `decoder.depth`; known here: layers"),
        ("data.samples.augment.turn=1", r"unknown setting `data.samples.augment.turn`; known here: crop_scale"),
        ("data.samples.augment={size_hw: [32, 32], fill: 9}", "the encoder decides .*; leave out size_hw and fill"),
        ("data.train=[]", "give a list of at least 1"),
        ("amp=fp8", "'off', 'bf16' or 'fp16'"),
        ("optimizer.min_lr=1", "min_lr 1.0 must not exceed lr"),
        ("optimizer.betas=[0.9, 1]", "betas"),
        ("data.cache=here", "data.cache needs image_tower.lr_share 0"),
        (
            "loss.weights={image_text: 0, region_description: 0, box_l1: 0, box_giou: 0, region_weight: 0}",
            "every weight",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, override, message):
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, [override])


def test_data_must_be_named():
    with pytest.raises(SettingsError, match=r"setting `data.train` is required"):
        load_yaml_settings(TrainConfig, None, ["data={}"])


def test_something_must_learn():
    frozen = {"image_tower": {"lr_share": 0}, "text_tower": {"lr_share": 0}}
    with pytest.raises(ValueError, match="nothing is trained"):
        make_config("tiny", "train.jsonl", decoder=None, **frozen)
    assert make_config("tiny", "train.jsonl", **frozen).loss_weights().keys() >= {"image_text", "box_l1"}


def test_terms_of_weight_zero_and_those_that_need_a_decoder_are_off():
    config = make_config("tiny", "train.jsonl", loss={"weights": {"box_l1": 0, "region_weight": 0}})
    assert config.loss_weights() == {"image_text": 1, "region_description": 1, "box_giou": 2}
    assert make_config("tiny", "train.jsonl", decoder=None).loss_weights() == {"image_text": 1}
