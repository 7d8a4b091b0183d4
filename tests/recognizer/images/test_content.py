import pytest

from recognizer.images.content import content_kind, decodes_heic


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"])
def test_what_can_be_decoded_is_an_image(gradient, encode, image_format):
    assert content_kind(encode(gradient, image_format)) == "image"
    assert content_kind(encode(gradient.convert("L"), image_format)) == "image"


def iso(*brands):
    body = brands[0] + bytes(4) + b"".join(brands[1:])
    return (8 + len(body)).to_bytes(4, "big") + b"ftyp" + body + b"\0\0\0\x08mdat" + bytes(40)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (iso(b"heic", b"mif1"), "HEIC"),
        (iso(b"mif1", b"heic"), "HEIC"),
        (iso(b"mif1", b"avif", b"miaf"), "image"),
        (iso(b"isom", b"mp41"), "video"),
        (iso(b"qt  "), "video"),
        (iso(b"M4A ", b"isom"), None),
        (iso(b"crx ", b"isom"), "RAW"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(20), "RAW"),
        (b"FUJIFILMCCD-RAW 0201", "RAW"),
        (b"RIFF\x10\0\0\0AVI LIST", "video"),
        (b"RIFF\x10\0\0\0WAVEfmt ", None),
        (b"\x1aE\xdf\xa3\x01", "video"),
        (b"BMW is a maker of cars and motorbikes", None),
        (b"P5 is a chapter of this text\n", None),
        (b"Python 3 is a language", None),
        (b"P5\n# a comment\n12 8\n255\n", "image"),
        (b"", None),
    ],
)
def test_kinds_are_told_by_the_first_bytes(head, kind):
    assert content_kind(head) == kind


def test_heic_is_decoded_where_pillow_heif_is_installed(monkeypatch):
    monkeypatch.setattr("recognizer.images.content.find_spec", lambda name: name == "pillow_heif")
    assert decodes_heic()
    monkeypatch.setattr("recognizer.images.content.find_spec", lambda name: None)
    assert not decodes_heic()
