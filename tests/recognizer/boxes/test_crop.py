import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from recognizer.boxes.crop import LARGEST_SIDE, cut_box, show_box


def gradient(width, height):
    """An image whose red is x and whose green is y."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width)[None], np.arange(height)[:, None]
    pixels[..., 2] = 200
    return Image.fromarray(pixels)


def test_the_margin_is_that_of_a_tiny_box_and_falls_to_none():
    image = gradient(200, 200)
    assert cut_box(image, (100, 100, 101, 101), margin=1, blur=0).image.width == 3
    assert cut_box(image, (50, 50, 150, 150), margin=0.5, blur=0).image.width == 150
    assert cut_box(image, (0, 0, 200, 200), margin=2, blur=0).image.width == 200
    assert cut_box(image, (50, 50, 150, 150), margin=0, blur=0).image.width == 100


@given(st.integers(5, 90), st.integers(5, 90), st.data(), st.floats(0, 1.5))
def test_the_cut_is_a_square_that_holds_the_box_and_shows_the_image_where_it_lies(width, height, data, margin):
    image = gradient(width, height)
    x0, y0 = data.draw(st.floats(0, width - 1)), data.draw(st.floats(0, height - 1))
    box = (x0, y0, data.draw(st.floats(x0 + 0.5, width)), data.draw(st.floats(y0 + 0.5, height)))
    cut = cut_box(image, box, margin=margin, blur=0, fill=7)
    (x, y), side = cut.corner_xy, cut.image.width
    assert cut.image.height == side
    assert cut.scale == 1
    assert x <= box[0] + 1e-6
    assert y <= box[1] + 1e-6
    # The square begins at whole pixels, so that it may end one short of the box.
    assert x + side >= box[2] - 1
    assert y + side >= box[3] - 1
    shown = np.asarray(cut.image)
    for row in range(0, side, 3):
        for column in range(0, side, 3):
            inside = 0 <= x + column < width and 0 <= y + row < height
            wanted = (x + column, y + row, 200) if inside else (7, 7, 7)
            assert tuple(shown[row, column]) == wanted


def test_blur_leaves_the_box_sharp():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (80, 80, 3), dtype=np.uint8)
    sharp, blurred = (
        np.asarray(cut_box(Image.fromarray(noise), (30, 20, 50, 60), margin=0.5, blur=blur).image, float)
        for blur in (0, 0.05)
    )
    cut = cut_box(Image.fromarray(noise), (30, 20, 50, 60), margin=0.5, blur=0)
    x, y = (int(start - corner) for start, corner in zip((30, 20), cut.corner_xy, strict=True))
    assert (sharp[y : y + 40, x : x + 20] == blurred[y : y + 40, x : x + 20]).all()
    outside = np.ones(sharp.shape[:2], bool)
    outside[y : y + 40, x : x + 20] = False
    assert blurred[outside].std() < 0.5 * sharp[outside].std()


def test_a_long_thin_box_of_a_large_image_is_reduced():
    image = Image.new("RGB", (9000, 90), (10, 20, 30))
    cut = cut_box(image, (0, 10, 9000, 60), margin=0.1, blur=0)
    assert cut.image.size == (LARGEST_SIDE, LARGEST_SIDE)
    assert cut.scale == pytest.approx(9000 / LARGEST_SIDE)
    assert cut.image.getpixel((500, LARGEST_SIDE // 2)) == (10, 20, 30)
    assert cut.image.getpixel((500, 100)) == (0, 0, 0)


def test_an_mllm_sees_the_surroundings_with_the_box_drawn_or_the_rest_blurred():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (100, 100, 3), dtype=np.uint8))
    outlined, blurred = (show_box(image, (40, 40, 60, 60), how=how) for how in ("outline", "blur"))
    plain = cut_box(image, (40, 40, 60, 60), margin=0.5, blur=0).image
    assert outlined.size == blurred.size == plain.size
    drawn = np.asarray(outlined) != np.asarray(plain)
    assert 0 < drawn.any(axis=2).mean() < 0.3
    assert np.asarray(blurred)[0].std() < np.asarray(plain)[0].std()
