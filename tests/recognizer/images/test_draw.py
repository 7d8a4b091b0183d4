import numpy as np
import pytest
from PIL import Image

from recognizer.images import draw_evidence
from recognizer.images.draw import GROUND_RGB, PALETTE_RGB, lay_out, place_plate
from recognizer.images.fonts import FontBook, Lettering

FONTS = FontBook([])


def places(image, colour):
    """Rows and columns of the pixels that have a colour."""
    return np.argwhere((np.asarray(image) == colour).all(-1))


def test_boxes_and_plates_have_their_own_colours():
    grey = Image.new("RGB", (900, 600), (90, 90, 90))
    boxes = [(100, 100, 300, 200), (400, 300, 800, 500), None]
    drawn = draw_evidence(grey, boxes, [["ear"], [], ["whole image"]])
    assert drawn.size == grey.size
    assert set(np.asarray(grey).ravel()) == {90}
    assert all(len(places(drawn, colour)) for colour in PALETTE_RGB[:3])
    outline = places(drawn, PALETTE_RGB[1])
    assert np.abs(outline.min(0) - (300, 400)).max() <= 2
    assert np.abs(outline.max(0) - (500, 800)).max() <= 2
    assert places(drawn, PALETTE_RGB[2])[:, 0].max() == 599  # at the foot


def test_boxes_are_in_the_displayed_frame():
    reduced = Image.new("RGB", (1000, 500))
    drawn = draw_evidence(reduced, [(1000, 500, 2000, 1000)], [[]], displayed_size_hw=(1000, 2000))
    assert np.abs(places(drawn, PALETTE_RGB[0]).min(0) - (250, 500)).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (60, 30), (5000, 400), (1200, 900)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_any_picture_box_and_text(size, mode):
    boxes = [(-5, -5, 1e6, 1e6), (size[0], size[1], size[0], size[1]), (9, 9, 1, 1), None]
    texts = [["word " * 200, "more"], ["x" * 10_000], ["a\nb\x1b[2J\t🐈 שלום"], ["   "]]
    drawn = draw_evidence(Image.new(mode, size), boxes, texts, fonts=FONTS)
    assert max(drawn.size) == min(max(max(size), 800), 2048)
    assert max(drawn.size) <= 2.51 * min(drawn.size)
    titled = draw_evidence(Image.new(mode, size), boxes, texts, title="title " * 50, fonts=FONTS)
    assert titled.width == drawn.width
    assert titled.height > drawn.height


@pytest.mark.parametrize("size", [(4000, 100), (100, 4000)])
def test_titles_and_captions_of_extreme_pictures_are_whole_and_beside_the_picture(size):
    white = Image.new("RGB", size, (0, 255, 0))
    box = (size[0] * 0.4, size[1] * 0.4, size[0] * 0.6, size[1] * 0.6)
    title = "73% a name of several words"
    drawn = draw_evidence(white, [box], [["0.44 ear", "0.31 long tail"]], title=title)
    picture = places(drawn, (0, 255, 0))
    band = np.asarray(drawn)[: picture[:, 0].min()]
    assert (band == GROUND_RGB).all(-1).mean() > 0.8
    assert (band == 255).all(-1).any()
    shown = np.ptp(picture, axis=0) + 1
    assert max(shown) / min(shown) == pytest.approx(40, rel=0.05)
    plate = places(drawn, PALETTE_RGB[0])
    outside = (plate < picture.min(0)).any(1) | (plate > picture.max(0)).any(1)
    assert outside.mean() > 0.5
    room = Lettering(max(18, round(min(2048 / 32, drawn.width / 23))))
    assert " ".join(lay_out([title], room, drawn.width).lines) == title


def test_a_single_text_has_two_lines_and_several_have_one_each():
    lettering = Lettering(20, FONTS)
    for text in ("short", "some words that need a second line", "word " * 60, "x" * 300, "73% " + "x" * 300):
        caption = lay_out([text], lettering, 240)
        assert caption.size_wh[0] <= 240
        assert len(caption.lines) <= 2
        shown = "".join(caption.lines).replace(" ", "")
        whole = text.replace(" ", "")
        assert shown == whole or (shown.endswith("…") and whole.startswith(shown[:-1]) and len(caption.lines) == 2)
        assert all(lettering.width(line) > 150 for line in caption.lines[:-1])
    caption = lay_out(["0.44 cup", "0.31 " + "word " * 60, "0.2 a\nb"], lettering, 240)
    assert [line[:8] for line in caption.lines] == ["0.44 cup", "0.31 wor", "0.2 a b"]
    assert caption.lines[1].endswith("…")
    assert caption.size_wh[1] > lay_out(["0.44 cup"], lettering, 240).size_wh[1] + 2 * lettering.size


def test_plates_stay_inside_and_off_each_other():
    taken = []
    for _ in range(4):
        x, y = place_plate((100, 20), (300, 5, 395, 90), taken, (0, 0, 400, 300), (0, 0, 400, 300))
        assert 0 <= x <= 300
        assert 0 <= y <= 280
        taken.append((x, y, x + 100, y + 20))
    overlaps = [
        min(a[3], b[3]) > max(a[1], b[1]) and min(a[2], b[2]) > max(a[0], b[0])
        for i, a in enumerate(taken)
        for b in taken[:i]
    ]
    assert not any(overlaps)


def test_a_plate_stands_above_its_box_where_there_is_room():
    assert place_plate((100, 20), (50.3, 60.7, 195, 90), [], (0, 0, 400, 300), (0, 0, 400, 300)) == (50.3, 40.7)
    assert place_plate((100, 20), (50, 60, 195, 90), [], (0, 50, 400, 300), (0, 50, 400, 300)) == (50, 50)


def test_mismatched_evidence_is_refused():
    image = Image.new("RGB", (9, 9))
    with pytest.raises(ValueError, match="1 boxes and 2 captions"):
        draw_evidence(image, [(0, 0, 1, 1)], [["a"], ["b"]])
    with pytest.raises(ValueError, match="has 3 numbers"):
        draw_evidence(image, [(0, 0, 1)], [["a"]])


def test_the_first_box_lies_on_top_of_the_others():
    drawn = draw_evidence(Image.new("RGB", (900, 600)), [(100, 100, 300, 200)] * 3, [[], [], []])
    assert [len(places(drawn, colour)) > 0 for colour in PALETTE_RGB[:3]] == [True, False, False]
