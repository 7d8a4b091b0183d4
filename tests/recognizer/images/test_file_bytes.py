import os
import socket
import stat
import struct
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from recognizer.images import ImageError, decode_image
from recognizer.images.file_bytes import ends_early
from tests.recognizer.images.comparing import failure


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
        pytest.param(
            b"\0\0\0\x18ftypheic" + bytes(20),
            "HEIC",
            marks=pytest.mark.skipif(find_spec("pillow_heif") is not None, reason="pillow-heif reads HEIC"),
        ),
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
    ("boxes", "early"),
    [
        (struct.pack(">I4sxxxx", 12, b"ftyp") + struct.pack(">I4sxxxx", 12, b"mdat"), False),
        (struct.pack(">I4sxxxx", 12, b"ftyp") + struct.pack(">I4sxxxx", 13, b"mdat"), True),
        (struct.pack(">I4sxxxx", 12, b"ftyp") + struct.pack(">I4sxxxx", 0, b"mdat"), False),  # up to the end
        (struct.pack(">I4sQ", 1, b"mdat", 16), False),  # a size of 64 bits
        (struct.pack(">I4sQ", 1, b"mdat", 17), True),
    ],
)
def test_an_avif_ends_where_its_last_box_says(boxes, early):
    assert ends_early(boxes, "AVIF") == early


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
