import hashlib
import io
import os
import re
import resource
import socket
import stat
import threading
import time

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageOps
from pydantic import ValidationError

from recognizer.images import ImageError, ImageLimits, decode_bytes, decode_image, to_rgb8
from recognizer.images.errors import IMAGE_ERROR_CODES

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"]


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


def difference(first, second):
    return np.abs(pixels(first) - pixels(second)).mean()


def failure(data, **options):
    with pytest.raises(ImageError) as caught:
        decode_bytes(data, **options)
    assert caught.value.code in IMAGE_ERROR_CODES
    return caught.value


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


@pytest.mark.parametrize("percent", [10, 50, 90, 99])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_cut_short(encode, image_format, percent):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8))
    data = encode(noise, image_format)
    assert failure(data[: len(data) * percent // 100]).code == "E_TRUNCATED"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"just some text\n", "text"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "HEIC"),
        (bytes(100), "zero bytes"),
        (b"\x93\x88\x01\xfe", "unknown kind"),
    ],
)
def test_other_kinds_of_files_are_named(monkeypatch, content, said):
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    error = failure(content)
    assert error.code == "E_NOT_IMAGE"
    assert said in error.reason


@pytest.mark.parametrize(
    ("size", "code"), [((50_000, 50_000), "E_BOMB"), ((12_000, 12_000), "E_BOMB"), ((1, 20_000), "E_ASPECT")]
)
def test_bombs_are_refused_from_the_header(png_header, size, code):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = failure(png_header(*size))
    assert error.code == code
    assert f"{size[0]}×{size[1]}" in error.reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_limits_are_the_callers(gradient, encode, tmp_path):
    data = encode(gradient, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert failure(data, limits=ImageLimits(max_pixels=6143)).code == "E_BOMB"
    assert failure(data, limits=ImageLimits(max_aspect_ratio=1.49)).code == "E_ASPECT"
    assert failure(data, limits=ImageLimits(max_file_bytes=len(data) - 1)).code == "E_TOO_LARGE"
    assert failure(data, limits=ImageLimits(formats=("JPEG",))).code == "E_NOT_IMAGE"
    with pytest.raises(ImageError, match="E_TOO_LARGE"):
        decode_image(path, limits=ImageLimits(max_file_bytes=9))
    exact = ImageLimits(max_pixels=6144, max_aspect_ratio=1.5, max_file_bytes=len(data), formats=("PNG",))
    assert decode_image(path, limits=exact).image.size == gradient.size


@pytest.mark.parametrize("wrong", [{"max_pixels": 0}, {"formats": ("EPS",)}, {"formats": ()}, {"max_pixel": 9}])
def test_limits_refuse_nonsense(wrong):
    with pytest.raises(ValidationError):
        ImageLimits(**wrong)


def test_above_the_decoders_own_limit_without_a_warning(monkeypatch, gradient, encode):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    for image_format in ("JPEG", "PNG", "BMP", "WEBP"):
        assert decode_bytes(encode(gradient, image_format)).image.size == gradient.size


def test_files_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    codes = {}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jpg"))
        for name in ("pipe", "folder", "empty", "loop", "socket", "missing"):
            with pytest.raises(ImageError) as caught:
                decode_image(tmp_path / f"{name}.jpg")
            codes[name] = caught.value.code
            assert str(tmp_path) not in caught.value.reason
    assert codes == {
        "pipe": "E_NOT_FILE",
        "folder": "E_NOT_FILE",
        "empty": "E_EMPTY",
        "loop": "E_READ",
        "socket": "E_READ",
        "missing": "E_NOT_FOUND",
    }
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ImageError):
        decode_image(tmp_path / "folder.jpg")
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_permission(tmp_path, gradient, encode, monkeypatch):
    path = tmp_path / "secret.png"
    path.write_bytes(encode(gradient, "PNG"))
    path.chmod(0)
    if os.geteuid() == 0:  # may read anything, so the refusal is simulated

        def refuse(*_):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ImageError) as caught:
        decode_image(path)
    assert caught.value.code == "E_PERMISSION"
    assert stat.S_IMODE(path.stat().st_mode) == 0


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_orientation_does_not_cost_the_picture(gradient, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    for damaged in (block[:8], b"Exif\0\0MM\0*\xff\xff\xff\xff", block.replace(b"\x06", b"\x77")):
        assert decode_bytes(encode(gradient, "JPEG", exif=damaged)).displayed_size_hw == (64, 96)


def test_reasons_are_one_clean_line():
    error = ImageError("E_DECODE", "<_io.BytesIO object at 0x7f80aa> /home/me/x.jpg \x1b[2J\n" + "y" * 999)
    assert error.reason.startswith("<_io.BytesIO object> (path) \\x1b[2J\\n")
    assert error.reason.isprintable()
    assert len(error.reason) <= 300


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
