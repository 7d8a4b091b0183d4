"""Differences of pictures, and the error that a damaged one gives."""

import numpy as np
import pytest

from recognizer.images import ImageError, decode_bytes
from recognizer.images.errors import IMAGE_ERROR_CODES


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


def difference(first, second):
    return np.abs(pixels(first) - pixels(second)).mean()


def failure(data, **options):
    with pytest.raises(ImageError) as caught:
        decode_bytes(data, **options)
    assert caught.value.code in IMAGE_ERROR_CODES
    return caught.value
