import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from recognizer.encoder import EncoderError
from recognizer.encoder.preprocessing import Preprocessing

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SIZES = [(1, 1), (1, 50), (300, 1), (31, 57), (64, 64), (120, 80), (333, 500)]


def settings(geometry, size_hw=(64, 64), interpolation="bicubic"):
    return Preprocessing(size_hw=size_hw, geometry=geometry, mean=MEAN, std=STD, interpolation=interpolation, fill=9)


def noise(size_hw):
    array = np.random.default_rng(sum(size_hw)).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return Image.fromarray(array)


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("geometry", "resize_mode"), [("squash", "squash"), ("crop", "shortest"), ("letterbox", "longest")]
)
def test_pixels_are_those_of_open_clip(geometry, resize_mode, interpolation, size_hw):
    transform = open_clip.image_transform(
        64, is_train=False, mean=MEAN, std=STD, resize_mode=resize_mode, interpolation=interpolation, fill_color=9
    )
    if min(size_hw) == 1 and resize_mode == "longest" and max(size_hw) > 64:
        pytest.skip("open_clip resizes a thin image to zero pixels")
    ours = settings(geometry, interpolation=interpolation)
    image = noise(size_hw)
    pixels, _ = ours.pixels(image)
    assert torch.equal(ours.normalize(pixels[None])[0], transform(image))


def test_a_crop_into_an_oblong_input_is_that_of_open_clip():
    transform = open_clip.image_transform((48, 80), is_train=False, mean=MEAN, std=STD, resize_mode="shortest")
    image = noise((200, 211))
    ours = settings("crop", (48, 80))
    assert torch.equal(ours.normalize(ours.pixels(image)[0][None])[0], transform(image))


def test_unknown_names_are_refused():
    with pytest.raises(EncoderError, match="stretch"):
        settings("stretch")
    with pytest.raises(EncoderError, match="nearest"):
        settings("squash", interpolation="nearest")
