import resource

import pytest
from PIL import Image
from pydantic import ValidationError

from recognizer.images import ImageError, ImageLimits, decode_bytes, decode_image
from tests.recognizer.images.comparing import failure


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
