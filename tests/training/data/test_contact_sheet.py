import numpy as np
import pytest
from PIL import Image

from training.data.contact_sheet import CELL, contact_sheet, draw_sample
from training.data.record import Record, Region

GREEN = (0, 90, 0)


def changed(drawn, plain):
    """Bounding box of the pixels that differ, in shares of the picture."""
    difference = np.abs(np.asarray(drawn, dtype=int) - np.asarray(plain, dtype=int)).sum(2) > 60
    rows, columns = np.nonzero(difference)
    height, width = difference.shape
    return columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height


def test_boxes_stand_where_the_displayed_image_has_them():
    image = Image.new("RGB", (400, 200), GREEN)  # decoded at half its size
    record = Record((" ",), (Region((400.0, 200.0, 700.0, 360.0), (" ",), 1.0),))
    plain = draw_sample(image, (400, 800), Record((" ",), ()))
    x0, y0, x1, y1 = changed(draw_sample(image, (400, 800), record), plain)
    top = 1 - (plain.width / 2) / plain.height  # the line of the caption, above an image twice as wide as high
    assert (x0, x1) == pytest.approx((0.5, 0.875), abs=0.01)
    assert (y0, y1) == pytest.approx((top + (1 - top) * 0.5, top + (1 - top) * 0.9), abs=0.02)


@pytest.mark.parametrize("size", [(90, 60), (3000, 40), (40, 3000)])
def test_a_picture_fits_its_cell(size):
    drawn = draw_sample(Image.new("RGB", size), (size[1], size[0]), Record(("a caption",), ()))
    assert max(drawn.size) == CELL


def test_only_the_best_boxes_and_some_descriptions_are_drawn():
    image = Image.new("RGB", (800, 800), GREEN)
    good = [Region((x, 300.0, x + 40.0, 340.0), (" ",), 0.9) for x in np.arange(8.0) * 60]
    poor = Region((600.0, 700.0, 790.0, 790.0), ("poor",), 0.1)
    with_poor = draw_sample(image, (800, 800), Record(("x",), (poor, *good)))
    assert with_poor.tobytes() == draw_sample(image, (800, 800), Record(("x",), tuple(good))).tobytes()
    many = [Region(poor.box_xyxy, tuple(f"text {n}" for n in range(count)), 1.0) for count in (3, 4, 5)]
    three, four, five = (draw_sample(image, (800, 800), Record(("x",), (one,))).tobytes() for one in many)
    assert len({three, four, five}) == 3  # "and 1 more", "and 2 more"


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 2, 1), (2, 2, 1), (3, 2, 2), (12, 4, 3), (13, 5, 3)])
def test_a_sheet_has_rows_of_cells(count, columns, rows):
    sheet = contact_sheet([(f"{n}.jpg", Image.new("RGB", (CELL, CELL), GREEN)) for n in range(count)])
    green = (np.asarray(sheet) == GREEN).all(2)
    starts = lambda line: int((np.diff(line.astype(int)) == 1).sum())  # noqa: E731
    assert starts(green.any(0)) == min(columns, count)
    assert starts(green.any(1)) == rows


def test_a_long_key_shows_its_end():
    def sheet(key):
        return contact_sheet([(key, Image.new("RGB", (CELL, 100), GREEN))]).tobytes()

    ending = "f" * 59
    assert sheet("a" * 80 + ending) == sheet("…" + ending)
    assert sheet("short.jpg") != sheet("other.jpg")
