import numpy as np
import pytest
from PIL import Image, ImageDraw

from recognizer.images import ImageItem, decode_image
from training.annotation.masks import MaskDetector, stands_out, subject_box


def boxes(path, **options):
    """Return the boxes of a file's subject, and the displayed size."""
    decoded = decode_image(path, **options)
    detector = MaskDetector()
    prepared = detector.prepare(ImageItem(b"x", bytes(path)), decoded)
    (found,), (twice, _) = detector.detect([prepared, prepared], [["owl"], ["owl", "wing"]], 0.3)
    assert np.array_equal(found.boxes_xyxy, twice.boxes_xyxy)
    return found.boxes_xyxy.tolist()


def cut_out(size_wh, box, alpha=255):
    image = Image.new("RGBA", size_wh, (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), (255, 255, 255, alpha))
    return image


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_a_white_cut_out_has_the_box_of_its_opaque_pixels(tmp_path, suffix):
    image = cut_out((60, 40), (10, 5, 30, 35))
    image.putpixel((55, 20), (0, 0, 0, 100))  # a shadow
    image.putpixel((1, 1), (0, 0, 0, 255))  # a speck
    image.save(tmp_path / f"a.{suffix}", lossless=True)
    assert boxes(tmp_path / f"a.{suffix}") == [[10, 5, 30, 35]]


def test_boxes_are_in_displayed_pixels(tmp_path):
    image = cut_out((60, 40), (10, 5, 30, 35))
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn clockwise: x' = 40 - y, y' = x
    image.save(tmp_path / "a.png", exif=exif)
    assert boxes(tmp_path / "a.png") == [[5, 10, 35, 30]]


def test_palettes_and_grey_images_with_transparency_are_cut_outs(tmp_path):
    image = cut_out((60, 40), (10, 5, 30, 35))
    image.convert("LA").save(tmp_path / "la.png")
    image.convert("P").save(tmp_path / "p.gif", transparency=image.convert("P").getpixel((0, 0)))
    assert boxes(tmp_path / "la.png") == boxes(tmp_path / "p.gif") == [[10, 5, 30, 35]]


@pytest.mark.parametrize("alpha", [0, 100])
def test_an_image_without_opaque_pixels_has_no_box(tmp_path, alpha):
    cut_out((60, 40), (10, 5, 30, 35), alpha).save(tmp_path / "a.png")
    assert boxes(tmp_path / "a.png") == []


@pytest.mark.parametrize("size_wh", [(1200, 300), (300, 1200), (640, 640)])
def test_a_product_on_a_plain_background_has_a_box_at_any_aspect_ratio(tmp_path, size_wh):
    width, height = size_wh
    image = Image.new("RGB", size_wh, (235, 235, 235))
    ImageDraw.Draw(image).ellipse((width * 0.2, height * 0.3, width * 0.7, height * 0.8), (120, 60, 30))
    image.save(tmp_path / "a.jpg", quality=80)
    ((x0, y0, x1, y1),) = boxes(tmp_path / "a.jpg", target_size_hw=(512, 512))
    near = max(size_wh) / 128
    assert (x0, x1) == pytest.approx((width * 0.2, width * 0.7), abs=near)
    assert (y0, y1) == pytest.approx((height * 0.3, height * 0.8), abs=near)


def test_a_subject_may_touch_the_border_and_a_scene_has_no_box(photos):
    image = Image.new("RGB", (100, 100), "white")
    image.paste((0, 0, 200), (45, 60, 60, 100))
    assert subject_box(stands_out(image)) == (45, 60, 60, 100)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8))
    assert subject_box(stands_out(noise)) is None
    assert subject_box(stands_out(Image.new("RGB", (9, 9)))) is None


def test_all_large_patches_are_in_the_box():
    mask = np.zeros((50, 80), bool)
    mask[10:20, 5:15] = mask[30:40, 60:70] = True
    mask[48, 78] = True
    assert subject_box(mask) == (5, 10, 70, 40)
