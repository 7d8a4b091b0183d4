import io

import numpy as np
import pytest
from PIL import Image, ImageChops

from recognizer.images import decode_bytes, to_rgb8
from recognizer.images.pixels import scale_to_uint8
from tests.recognizer.images.comparing import difference, failure, pixels


def test_cmyk(gradient, encode):
    cmyk = gradient.convert("CMYK")
    data = encode(cmyk, "JPEG", quality=95)
    assert difference(decode_bytes(data).image, gradient) < 4
    assert difference(decode_bytes(encode(cmyk, "TIFF")).image, gradient) < 1
    marker = data.index(b"\xff\xee")  # the Adobe marker, which says that the inks are stored inverted
    length = int.from_bytes(data[marker + 2 : marker + 4], "big")
    plain = decode_bytes(data[:marker] + data[marker + 2 + length :])
    inverted = ImageChops.invert(Image.open(io.BytesIO(data))).convert("RGB")
    assert difference(plain.image, inverted) < 1


def test_deep_grey_is_scaled_not_clipped(tmp_path, encode):
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(4, 0)
    expected = np.rint(ramp * 255).astype(int)
    sixteen = Image.fromarray((ramp * 65535).astype(np.uint16))
    deep = {
        "png16": encode(sixteen, "PNG"),
        "tiff16": encode(sixteen, "TIFF"),
        "tiff12": encode(Image.fromarray((ramp * 4095).astype(np.uint16)), "TIFF"),
        "tiff32": encode(Image.fromarray((ramp * 2e9 - 1e9).astype(np.int32)), "TIFF"),
        "float1": encode(Image.fromarray(ramp), "TIFF"),
        "float255": encode(Image.fromarray(ramp * 255), "TIFF"),
        "float_far": encode(Image.fromarray((ramp * 2 - 1) * np.float32(3e38)), "TIFF"),
    }
    for name, data in deep.items():
        assert np.abs(pixels(decode_bytes(data).image)[..., 0] - expected).max() <= 1, name


def test_deep_grey_without_a_finite_pixel(encode):
    data = encode(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF")
    assert failure(data).code == "E_DECODE"
    half = np.full((4, 4), np.nan, np.float32)
    half[:2] = 1
    assert set(pixels(decode_bytes(encode(Image.fromarray(half), "TIFF")).image).ravel()) == {0, 255}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparent_pixels_are_white(gradient, encode, mode):
    alpha = Image.new("L", gradient.size, 255)
    alpha.paste(0, (0, 0, 48, 64))
    layer = gradient.convert("L") if mode == "LA" else gradient
    expected = Image.composite(layer.convert("RGB"), Image.new("RGB", gradient.size, "white"), alpha)
    layer = layer.copy()
    layer.putalpha(alpha)
    if mode == "P":
        data = encode(layer.quantize(64), "PNG")
        assert difference(decode_bytes(data).image, expected) < 8
        return
    if mode == "PA":
        assert difference(to_rgb8(layer.quantize(64).convert("PA")), expected) < 8
        return
    assert difference(decode_bytes(encode(layer, "PNG")).image, expected) == 0


def test_one_colour_made_transparent(encode):
    image = Image.new("RGB", (4, 4), (200, 0, 0))
    image.putpixel((0, 0), (0, 9, 0))
    decoded = decode_bytes(encode(image, "PNG", transparency=(200, 0, 0))).image
    assert decoded.getpixel((1, 1)) == (255, 255, 255)
    assert decoded.getpixel((0, 0)) == (0, 9, 0)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_few_colours(gradient, encode, mode):
    converted = gradient.convert(mode)
    assert difference(decode_bytes(encode(converted, "PNG")).image, converted) == 0


@pytest.mark.parametrize("shape", [(2100, 1500), (1, 3_000_000), (3_000_000, 1)])
def test_samples_that_are_scaled_in_blocks_have_one_range(shape):
    samples = np.random.default_rng(0).uniform(-70_000, 90_000, shape).astype(np.float32)
    samples[0, 0], samples[-1, -1] = -80_000, 100_000  # the ends lie in different blocks
    samples[shape[0] // 2, shape[1] // 2] = np.nan
    expected = np.rint((np.nan_to_num(samples, nan=-80_000).astype(np.float64) + 80_000) * (255 / 180_000))
    scaled = scale_to_uint8(samples)
    assert scaled.shape == shape
    assert np.abs(scaled - expected).max() <= 1
    assert (scaled == expected).mean() > 0.999


def test_block_without_a_number_is_black_among_others():
    samples = np.full((3000, 1000), np.nan, np.float32)
    samples[-1] = 200.0
    scaled = scale_to_uint8(samples)
    assert (scaled[:-1] == 0).all()
    assert (scaled[-1] == 200).all()
