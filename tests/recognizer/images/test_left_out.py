import os

import pytest
from PIL import Image, TiffImagePlugin

from memory.labels import IMAGE_SUFFIXES
from recognizer.images import ImageError, ImageInputError, decode_image, list_images, require_images
from recognizer.images.left_out import left_out_lines, why_left_out

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
VIDEO = b"\0\0\0\x18ftypisom\0\0\0\0isommp41" + bytes(40)


def raw(path):
    """A photo in the manner of DNG and NEF: a small preview first."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254], tags[50706] = 1, b"\x01\x04\0\0"
    Image.new("RGB", (16, 16)).save(path, "TIFF", tiffinfo=tags)


@pytest.fixture
def phone(tmp_path, gradient, monkeypatch):
    """What a phone and a camera leave behind, without pillow-heif."""
    monkeypatch.setattr("recognizer.images.content.find_spec", lambda name: None)
    folder = tmp_path / "phone"
    folder.mkdir()
    gradient.save(folder / "1.jpg")
    gradient.save(folder / "2.MPO", "MPO", save_all=True, append_images=[Image.new("RGB", (96, 64))])
    gradient.save(folder / "3", "JPEG")
    gradient.save(folder / "4.bak", "PNG")
    gradient.save(folder / "5.heic", "JPEG")  # some programs convert a photo and leave its name
    gradient.save(folder / "6.dng", "JPEG")
    (folder / "7.jpeg").write_bytes(b"damaged")
    for name in ("a.HEIC", "b.heic", "c"):
        (folder / name).write_bytes(HEIC)
    (folder / "d.mp4").write_bytes(VIDEO)
    (folder / "e").write_bytes(VIDEO)
    (folder / "f.MOV").touch()
    raw(folder / "g.dng")
    raw(folder / "h.NEF")
    (folder / "i.cr2").write_bytes(b"II*\0\x10\0\0\0CR\x02\0" + bytes(20))
    (folder / "j.jpg").symlink_to("nothing")
    (folder / "k").symlink_to("nothing")
    (folder / "l.json").write_text("{}")
    (folder / "m").write_text("BMW and P5 are words")
    (folder / ".n.jpg").touch()
    (folder / ".n").mkdir()
    os.mkfifo(folder / "o.jpg")
    return folder


def test_every_file_of_a_folder_is_listed_or_counted(phone):
    listing = list_images(phone)
    assert list(listing.keys) == ["1.jpg", "2.MPO", "3", "4.bak", "5.heic", "6.dng", "7.jpeg"]
    counted, remedy = listing.left_out
    assert counted == (
        "left out: 3 HEIC, 3 RAW, 3 videos, 2 links that lead nowhere, 1 pipe or device, 1 hidden file, "
        "1 hidden folder, 1 .json, 1 file without suffix"
    )
    assert remedy.startswith("to include them: HEIC: pip install pillow-heif; RAW: ")
    assert "ffmpeg" in remedy


def test_a_glob_counts_only_what_it_matches(phone):
    assert list_images(str(phone / "[1-9a-c]*")).left_out[0] == "left out: 3 HEIC"
    named = list_images(str(phone / "*.heic"))
    assert (list(named.keys), named.left_out) == (["5.heic", "b.heic"], ())
    with pytest.raises(ImageInputError, match=r"matches no image file.*left out: 1 link that leads nowhere"):
        list_images(str(phone / "j.*"))


def test_a_file_that_is_named_too_is_not_left_out(phone):
    listing = list_images([phone, phone / "l.json", phone / "a.HEIC", phone])
    assert list(listing.keys)[-2:] == ["l.json", "a.HEIC"]
    assert listing.left_out[0].startswith("left out: 2 HEIC, 3 RAW")
    assert ".json" not in listing.left_out[0]


def test_a_folder_without_images_says_what_it_holds(phone):
    for name in listing_names(phone):
        (phone / name).unlink()
    with pytest.raises(
        ImageInputError, match=r"no images in .*phone; left out: 3 HEIC, .*pillow-heif.*; give a folder"
    ):
        require_images(list_images(phone), phone)


def listing_names(folder):
    return list(list_images(folder).keys)


@pytest.mark.parametrize(
    ("name", "said"), [("a.HEIC", "pillow-heif"), ("g.dng", "RAW"), ("i.cr2", "RAW"), ("e", "video")]
)
def test_a_left_out_file_that_is_named_says_what_it_is(phone, name, said):
    with pytest.raises(ImageError, match=f"E_NOT_IMAGE.*{said}"):
        decode_image(phone / name)


def test_of_several_pictures_in_a_file_the_first_is_taken(phone, gradient):
    decoded = decode_image(phone / "2.MPO")
    assert decoded.displayed_size_hw == (64, 96)
    assert decoded.image.getpixel((90, 60))[0] > 200  # the second one is black


def test_heic_is_listed_where_it_can_be_decoded(phone, monkeypatch):
    monkeypatch.setattr("recognizer.images.content.find_spec", lambda name: True)
    (phone / "damaged.heif").touch()
    assert {"a.HEIC", "b.heic", "c", "damaged.heif"} <= set(list_images(phone).keys)


def test_a_real_heic_is_decoded(tmp_path, gradient):
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow_heif.from_pillow(gradient).save(tmp_path / "a.heic", quality=90, exif=exif.tobytes())
    decoded = decode_image(tmp_path / "a.heic")
    assert (decoded.format, decoded.displayed_size_hw) == ("HEIF", (96, 64))
    turned = gradient.transpose(Image.Transpose.ROTATE_270)
    assert max(abs(a - b) for a, b in zip(decoded.image.getpixel((9, 80)), turned.getpixel((9, 80)), strict=True)) < 12


def test_an_unreadable_file_is_counted(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert why_left_out(os.fsencode(tmp_path / "a")) == "unreadable file"
    assert all(why_left_out(os.fsencode(f"a{suffix.upper()}")) is None for suffix in IMAGE_SUFFIXES)  # not opened


def test_rare_suffixes_are_counted_together():
    reasons = [*[".a", ".a", ".b", ".b", ".c", ".c", ".d", ".d", ".e", ".e", ".f", ".g"], "video", "other file"]
    assert left_out_lines(reasons)[0] == "left out: 1 video, 2 .a, 2 .b, 2 .c, 2 .d, 2 .e, 3 other files"
    assert left_out_lines([]) == []
    assert left_out_lines([".a"]) == ["left out: 1 .a"]
