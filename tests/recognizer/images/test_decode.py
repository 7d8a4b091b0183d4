import hashlib
import re
import threading
import time

import numpy as np
import pytest
from PIL import Image, ImageOps

from recognizer.images import ImageError, ImageLimits, decode_bytes, decode_image
from recognizer.images.errors import IMAGE_ERROR_CODES
from tests.recognizer.images.comparing import difference, pixels

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"]


@pytest.mark.parametrize("image_format", FORMATS)
def test_every_format_by_content_whatever_the_name(tmp_path, gradient, encode, image_format):
    data = encode(gradient, image_format)
    path = tmp_path / "picture.dat"
    path.write_bytes(data)
    decoded = decode_image(path)
    assert (decoded.image.mode, decoded.displayed_size_hw) == ("RGB", (64, 96))
    assert (decoded.format, decoded.sha256) == (image_format, hashlib.sha256(data).hexdigest())
    assert difference(decoded.image, gradient) < 12  # GIF has 256 colours


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_once(gradient, encode, image_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(gradient, image_format, exif=exif)
    decoded = decode_bytes(data)
    stored = decode_bytes(encode(gradient, image_format)).image
    stored.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(stored)
    assert difference(decoded.image, expected) == 0
    assert decoded.displayed_size_hw == (expected.height, expected.width)
    assert difference(ImageOps.exif_transpose(decoded.image), expected) == 0


@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_jpeg_keeps_the_displayed_frame_and_the_target(gradient, encode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(gradient.resize((1600, 500), Image.Resampling.BICUBIC), "JPEG", quality=95, exif=exif)
    full = decode_bytes(data)
    target_hw = (100, 200) if orientation == 1 else (200, 100)
    reduced = decode_bytes(data, target_size_hw=target_hw)
    assert reduced.displayed_size_hw == full.displayed_size_hw == (full.image.height, full.image.width)
    assert (reduced.image.height, reduced.image.width) == tuple(side // 4 for side in full.displayed_size_hw)
    assert difference(reduced.image, full.image.resize(reduced.image.size, Image.Resampling.BOX)) < 1.5
    swapped = decode_bytes(data, target_size_hw=target_hw[::-1])
    assert swapped.image.height >= target_hw[1]
    assert swapped.image.width >= target_hw[0]


@pytest.mark.timing
def test_reduced_jpeg_is_faster(gradient, encode):
    data = encode(gradient.resize((2000, 1500), Image.Resampling.BICUBIC), "JPEG", quality=90)

    def seconds(target_size_hw):
        times = []
        for _ in range(5):
            started = time.perf_counter()
            decode_bytes(data, target_size_hw=target_size_hw)
            times.append(time.perf_counter() - started)
        return min(times)

    assert seconds((224, 224)) < 0.75 * seconds(None)


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(gradient, encode, image_format):
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encode(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    assert difference(decode_bytes(data).image, frames[0]) == 0


def test_a_photo_with_several_pictures_is_a_jpeg(gradient, encode):
    data = encode(gradient, "MPO", save_all=True, append_images=[gradient.rotate(180)], quality=95)
    decoded = decode_bytes(data, target_size_hw=(16, 24))
    assert (decoded.format, decoded.displayed_size_hw, decoded.image.size) == ("JPEG", (64, 96), (24, 16))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_orientation_does_not_cost_the_picture(gradient, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    for damaged in (block[:8], b"Exif\0\0MM\0*\xff\xff\xff\xff", block.replace(b"\x06", b"\x77")):
        assert decode_bytes(encode(gradient, "JPEG", exif=damaged)).displayed_size_hw == (64, 96)


def test_mutated_files_only_raise_image_errors(gradient, encode):
    random = np.random.default_rng(2)
    seeds = [encode(gradient.resize((24, 16)), each) for each in FORMATS if each != "AVIF"]
    seeds += [encode(gradient.resize((24, 16)).quantize(8), "GIF"), encode(gradient.convert("CMYK"), "JPEG")]
    outcomes = {"ok": 0}
    reasons = set()
    for _ in range(3000):
        data = bytearray(seeds[random.integers(len(seeds))])
        for _ in range(random.integers(1, 9)):
            data[random.integers(min(len(data), 300) if random.random() < 0.7 else len(data))] = random.integers(256)
        try:
            decode_bytes(bytes(data), limits=ImageLimits(max_pixels=1_000_000))
            outcomes["ok"] += 1
        except ImageError as error:
            outcomes[error.code] = outcomes.get(error.code, 0) + 1
            reasons.add(error.reason)
    assert set(outcomes) <= {"ok", *IMAGE_ERROR_CODES}
    assert not [reason for reason in reasons if re.search(r"0x[0-9a-f]{6,}", reason) or not reason.isprintable()]
    assert min(outcomes["ok"], outcomes["E_DECODE"], outcomes["E_NOT_IMAGE"]) > 20


def test_many_threads(tmp_path, gradient, encode):
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(gradient, "JPEG"))
    expected = pixels(decode_image(path).image)
    equal = []

    def work():
        equal.extend((pixels(decode_image(path, target_size_hw=(60, 60)).image) == expected).all() for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [True] * 160
