import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def gradient():
    """A smooth RGB picture, 96×64, in which no two of the eight orientations look alike."""
    x, y = np.meshgrid(np.linspace(0, 1, 96), np.linspace(0, 1, 64))
    return Image.fromarray(np.stack([255 * x, 255 * y, 255 * x * y], -1).astype(np.uint8))


@pytest.fixture(scope="session")
def encode():
    def encode_image(image, image_format, **options):
        buffer = io.BytesIO()
        image.save(buffer, image_format, **options)
        return buffer.getvalue()

    return encode_image


@pytest.fixture(scope="session")
def png_header():
    """Makes a PNG that claims a size and holds next to no pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def make(width, height):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")

    return make
