"""Sizes and places; `tests/recognizer/encoder/test_preprocessing.py` compares the pixels with those of open_clip."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from recognizer.images import Fit

GEOMETRIES = ["squash", "crop", "letterbox"]
sides = st.integers(1, 900)
sizes = st.tuples(sides, sides)


@given(size_hw=sizes, geometry=st.sampled_from(GEOMETRIES), fill=st.integers(0, 255))
def test_what_comes_back_from_json_is_the_same(size_hw, geometry, fill):
    fit = Fit(size_hw, geometry, "bilinear", fill)
    assert Fit.from_json(json.loads(json.dumps(fit.to_json()))) == fit


@given(image_hw=sizes, size_hw=sizes)
def test_a_crop_covers_the_input_and_a_letterbox_lies_in_it(image_hw, size_hw):
    for geometry, sign in (("crop", 1), ("letterbox", -1)):
        resized, offset = Fit(size_hw, geometry, "bicubic", 0).layout(image_hw)
        for length, start, side in zip(resized, offset, size_hw, strict=True):
            before, after = -start * sign, (length + start - side) * sign
            assert min(before, after) >= 0
            assert abs(before - after) <= 1


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_extreme_shapes_cost_no_more_than_the_input(geometry):
    for size_wh in [(20_000, 1), (1, 20_000)]:
        pixels = Fit((64, 64), geometry, "bicubic", 9).pixels(Image.new("RGB", size_wh, (10, 20, 30)))
        assert pixels.shape == (64, 64, 3)
        assert (pixels == [10, 20, 30]).all(axis=2).any()


def test_a_grey_image_has_three_equal_channels():
    noise = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
    pixels = Fit((64, 64), "squash", "bicubic", 0).pixels(Image.fromarray(noise))
    assert (pixels == pixels[..., :1]).all()


def test_padding_has_the_grey_level_of_the_fit():
    pixels = Fit((64, 64), "letterbox", "bicubic", 9).pixels(Image.new("RGB", (80, 40)))
    assert (pixels[:16] == 9).all()
    assert not pixels[16:48].any()
    assert (pixels[48:] == 9).all()


def test_resizing_needs_no_torch():
    code = "import sys, recognizer.images.fit; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
