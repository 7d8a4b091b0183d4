"""The network of the starter's classifier, against timm's."""

from __future__ import annotations

import pytest
import timm
import torch

from recognizer.encoder.starter.efficientnet import STRIDE, fold_batch_norms
from recognizer.encoder.starter.starter import load_classifier


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(load_classifier().state_dict())
    return model.eval()


def pixels(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("height", "width"), [(224, 224), (320, 320), (97, 130)])
@torch.inference_mode()
def test_it_computes_what_timm_computes(reference, height, width):
    model = load_classifier()
    picture = pixels(height, width)
    feature_map = model.finish(model.start(picture))
    assert feature_map.shape == (2, model.channels, -(-height // STRIDE), -(-width // STRIDE))
    torch.testing.assert_close(feature_map, reference.forward_features(picture), atol=1e-5, rtol=0)
    torch.testing.assert_close(model(picture), reference(picture), atol=1e-5, rtol=0)


@torch.inference_mode()
def test_folded_batch_norms_change_nothing(reference):
    model = load_classifier()
    fold_batch_norms(model)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in model.modules())
    picture = pixels(64, 64)
    torch.testing.assert_close(model(picture), reference(picture), atol=1e-4, rtol=0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("side", [64, 97])
def test_convolution_and_relu6_in_one_call_change_nothing(precision, side):
    model = load_classifier()
    fold_batch_norms(model)
    picture = pixels(side, side).to(memory_format=torch.channels_last)

    def feature_map() -> torch.Tensor:
        with torch.autocast("cpu", enabled=precision == torch.bfloat16):
            return model.finish(model.start(picture))

    with torch.enable_grad():  # with gradients the calls are separate
        expected = feature_map()
    with torch.no_grad():
        found = feature_map()
        assert torch.equal(feature_map(), found)
    torch.testing.assert_close(found, expected, atol=1e-4 if precision == torch.float32 else 0.02, rtol=0)


@torch.inference_mode()
def test_loaded_weights_take_the_place_of_packed_ones():
    model = load_classifier()
    fold_batch_norms(model)
    picture = pixels(64, 64)
    before = model(picture)
    model.load_state_dict({name: tensor * 0.5 for name, tensor in model.state_dict().items()})
    assert not torch.allclose(model(picture), before)
