import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from recognizer.images import draw_evidence
from recognizer.images.draw import PALETTE_RGB, lay_out_caption, place_plate


def has_colour(image, colour):
    return (np.asarray(image) == colour).all(-1).any()


def test_boxes_and_plates_have_their_own_colours():
    grey = Image.new("RGB", (900, 600), (90, 90, 90))
    drawn = draw_evidence(grey, [(100, 100, 300, 200), (400, 300, 800, 500), None], ["ear", "", "whole image"])
    assert drawn.size == grey.size
    assert set(np.asarray(grey).ravel()) == {90}
    assert all(has_colour(drawn, colour) for colour in PALETTE_RGB[:3])
    outline = np.argwhere((np.asarray(drawn) == PALETTE_RGB[1]).all(-1))
    assert np.abs(outline.min(0) - (300, 400)).max() <= 2
    assert np.abs(outline.max(0) - (500, 800)).max() <= 2


def test_boxes_are_in_the_displayed_frame():
    reduced = Image.new("RGB", (1000, 500))
    drawn = draw_evidence(reduced, [(1000, 500, 2000, 1000)], [""], displayed_size_hw=(1000, 2000))
    outline = np.argwhere((np.asarray(drawn) == PALETTE_RGB[0]).all(-1))
    assert np.abs(outline.min(0) - (250, 500)).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (60, 30), (5000, 400), (1200, 900)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_any_picture_box_and_text(size, mode):
    boxes = [(-5, -5, 1e6, 1e6), (size[0], size[1], size[0], size[1]), (9, 9, 1, 1), None]
    texts = ["word " * 200, "x" * 10_000, "a\nb\x1b[2J\t🐈 שלום", "   "]
    drawn = draw_evidence(Image.new(mode, size), boxes, texts, title="title " * 50)
    assert max(drawn.size) == min(max(max(size), 800), 2048)


def test_captions_fit_and_are_elided():
    draw = ImageDraw.Draw(Image.new("RGB", (900, 600)))
    font = ImageFont.load_default(20)
    for text in ("short", "some words that need a second line", "word " * 60, "x" * 300):
        caption = lay_out_caption(draw, text, font, 240)
        assert caption.size_wh[0] <= 240
        assert caption.text.count("\n") <= 1
        shown = caption.text.replace("\n", " ")
        assert shown == text.strip() or (shown.endswith("…") and text.startswith(shown[:-1]))


def test_plates_stay_inside_and_off_each_other():
    taken = []
    for _ in range(4):
        x, y = place_plate((100, 20), (300, 5, 395, 90), taken, (400, 300))
        assert 0 <= x <= 300
        assert 0 <= y <= 280
        taken.append((x, y, x + 100, y + 20))
    overlaps = [
        min(a[3], b[3]) > max(a[1], b[1]) and min(a[2], b[2]) > max(a[0], b[0])
        for i, a in enumerate(taken)
        for b in taken[:i]
    ]
    assert not any(overlaps[:3])


def test_mismatched_evidence_is_refused():
    image = Image.new("RGB", (9, 9))
    with pytest.raises(ValueError, match="1 boxes and 2 captions"):
        draw_evidence(image, [(0, 0, 1, 1)], ["a", "b"])
    with pytest.raises(ValueError, match="has 3 numbers"):
        draw_evidence(image, [(0, 0, 1)], ["a"])


def test_the_first_box_lies_on_top_of_the_others():
    drawn = draw_evidence(Image.new("RGB", (900, 600)), [(100, 100, 300, 200)] * 3, ["", "", ""])
    assert has_colour(drawn, PALETTE_RGB[0])
    assert not has_colour(drawn, PALETTE_RGB[1])
    assert not has_colour(drawn, PALETTE_RGB[2])
