import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from recognizer.errors import RecognizerError
from recognizer.images import ImageError, ImageLimits, ImageTypeError, check_sources, load_source, source_items


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_paths_bytes_and_images_give_the_displayed_pixels(tmp_path, gradient, encode, image_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(gradient, image_format, exif=exif)
    path = tmp_path / "picture"
    path.write_bytes(data)
    expected = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    for source in (path, str(path), data, Image.open(path), Image.open(path).convert("RGB")):
        loaded = load_source(source)
        assert np.array_equal(np.asarray(loaded.image), np.asarray(expected))
        assert loaded.displayed_size_hw == (expected.height, expected.width)


def test_an_image_of_the_caller_is_not_changed_and_not_turned_twice(gradient, encode, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(encode(gradient, "JPEG", exif=exif))
    image = Image.open(tmp_path / "a.jpg")
    first = load_source(image).image
    assert (image.size, image.getexif()[0x0112]) == ((96, 64), 6)
    assert load_source(image).image.tobytes() == first.tobytes()
    assert load_source(ImageOps.exif_transpose(image)).image.tobytes() == first.tobytes()


def test_deep_and_transparent_images_are_scaled_and_laid_on_white():
    assert load_source(Image.new("I;16", (2, 2), 65535)).image.getpixel((0, 0)) == (255, 255, 255)
    assert load_source(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).image.getpixel((0, 0)) == (255, 255, 255)


def test_what_cannot_be_decoded_is_an_image_error(tmp_path, gradient, encode):
    for source, code in (
        (tmp_path / "missing.jpg", "E_NOT_FOUND"),
        (b"just text", "E_NOT_IMAGE"),
        (b"", "E_EMPTY"),
        (Image.open(io.BytesIO(encode(gradient, "JPEG")[:700])), "E_DECODE"),
        (Image.new("RGB", (0, 3)), "E_DECODE"),
    ):
        with pytest.raises(ImageError) as caught:
            load_source(source)
        assert caught.value.code == code
    with pytest.raises(ImageError, match="E_BOMB"):
        load_source(encode(gradient, "JPEG"), limits=ImageLimits(max_pixels=100))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("photo.jpg", r"images is one str; give a list"),
        (Image.new("RGB", (1, 1)), r"images is one PIL.Image.Image; give a list"),
        (None, r"images is one NoneType; give a list"),
        ([b"", 7], r"images\[1\] is of type int; give a path"),
        ([None], r"images\[0\] is of type NoneType"),
        ([b"", "a", np.zeros((2, 2))], r"images\[2\] is of type numpy.ndarray.*fromarray"),
    ],
)
def test_a_wrong_type_is_said_with_its_position(images, said):
    with pytest.raises(ImageTypeError, match=said) as caught:
        check_sources(images)
    assert isinstance(caught.value, RecognizerError)
    assert isinstance(caught.value, TypeError)


def test_files_are_named_below_their_deepest_folder_and_others_by_position(tmp_path):
    sources = [tmp_path / "a" / "1.jpg", b"", str(tmp_path / "b" / "ü.jpg"), Image.new("RGB", (1, 1))]
    assert [item.key for item in source_items(sources)] == ["a/1.jpg", "1", "b/ü.jpg", "3"]
    assert [item.key for item in source_items([tmp_path / "a" / "1.jpg"])] == ["1.jpg"]
    assert [item.key for item in source_items([b"", b""], ["x", "y"])] == ["x", "y"]
