"""Boxes that a person draws in a real browser: where they lie, how they are named, and what is learnt from them."""

import io
import json
import shutil

import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image

from memory import Memory
from recognizer.corrections.log import read_corrections
from recognizer.exemplar_files import stored_exemplars
from recognizer.report import write_report
from tests.recognizer.commands import call
from tests.recognizer.report.runs import draw_image, result, write_run
from tests.recognizer.review.test_review import WORD, reviewing, until
from tests.remembering import remembering

SIZE, SQUARE = (300, 450), (45, 225, 119, 299)  # of the displayed image, which is stored turned
HOSTILE = '"><img src=x onerror=alert(1)>'


@pytest.fixture
def place(tmp_path, demo_memory, encoders_loaded_once):
    draw_image(tmp_path / "photos" / "turned.jpg", SIZE, square=SQUARE, orientation=6)
    shutil.copytree(demo_memory, tmp_path / "memory")
    command = ("run", tmp_path / "photos", "--memory", tmp_path / "memory", "--output", tmp_path / "rows.jsonl")
    assert call(*command, "--features", tmp_path / "features", "--precision", "fp32")[0] == 0
    return tmp_path


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1300, "height": 900}, has_touch=True)
    page = context.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    yield page
    context.close()
    assert wrong == []


def red_square(page):
    """Where the square is seen on the screen: left, top, right, bottom."""
    at = page.locator(".picture").bounding_box()
    pixels = np.asarray(Image.open(io.BytesIO(page.locator(".picture").screenshot())).convert("RGB")).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 150) & (pixels[..., 1:].max(-1) < 90))
    left, top = at["x"] + float(columns.min()), at["y"] + float(rows.min())
    return left, top, left + float(np.ptp(columns)) + 1, top + float(np.ptp(rows)) + 1


def drag(page, x0, y0, x1, y1, *, release=True):
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
    page.mouse.move(x1, y1)
    if release:
        page.mouse.up()


def touch(page, x0, y0, x1, y1):
    session = page.context.new_cdp_session(page)
    for kind, points in (("touchStart", [(x0, y0)]), ("touchMove", [(x1, y1)]), ("touchEnd", [])):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})


def test_a_person_draws_boxes_and_the_memory_learns_them(page, place, starter):
    log = place / "c.jsonl"
    waiting = "report.drawing.box"
    with reviewing(place, remembering(starter)) as address:
        page.goto(f"{address}/{WORD}/")
        until(page, "document.getElementById('sort').value === 'review'")
        page.wait_for_selector(".picture.drawable")
        page.evaluate("document.querySelector('.stage').show(null)")  # no region lies over the square
        square = red_square(page)

        bad = {"id": "1", "key": "turned.jpg", "verdict": "category", "new": "owl", "xyxy": [5, 5, 1, 9]}
        assert httpx.post(f"{address}/{WORD}/review/corrections", json=[bad]).status_code == 400
        assert read_corrections(log).all == []

        # Escape drops a box while it is drawn, and one that waits for its name; a click is none.
        drag(page, *square, release=False)
        page.wait_for_selector(".region.drawn")
        page.keyboard.press("Escape")
        page.mouse.up()
        assert page.evaluate(waiting) is None
        drag(page, *square)
        assert page.evaluate(waiting) == pytest.approx([45, 225, 120, 300], abs=2.5)
        assert "What is in the box?" in page.inner_text(".review")
        page.keyboard.type("u1zx")  # letters are those of its name, and so is a digit behind one
        assert page.input_value("#review-search") == "u1zx"
        assert page.evaluate(waiting) is not None
        page.keyboard.press("Escape")
        assert page.evaluate(waiting) is None
        page.keyboard.press("u")  # a key again
        until(page, "document.getElementById('review-status').textContent.includes('1 row corrected, all saved')")
        page.keyboard.press("z")
        until(page, "document.getElementById('review-status').textContent.includes('0 rows corrected, all saved')")
        page.evaluate("document.querySelector('.stage').show(null)")
        square = red_square(page)
        assert page.locator(".region.drawn").count() == 0
        page.mouse.click(square[0], square[1])
        assert page.evaluate(waiting) is None

        # Named by the search box, by touch and a digit, and undone.
        drag(page, square[2], square[3], square[0], square[1])  # from the other corner
        page.keyboard.type(HOSTILE)
        page.keyboard.press("Enter")  # before the list of categories has followed
        until(page, "document.getElementById('review-status').textContent.includes('1 box drawn, all saved')")
        assert page.inner_text(".region.drawn") == HOSTILE
        touch(page, square[0] - 20, square[1] - 20, square[2], square[3])
        until(page, f"{waiting} !== null")
        assert page.evaluate("document.activeElement.id") != "review-search"  # no keyboard over the candidates
        page.keyboard.press("u")
        assert "needs a category" in page.inner_text("#review-status")
        page.keyboard.press("Escape")
        drag(page, square[0] - 20, square[1] - 20, square[2], square[3])
        page.keyboard.press("2")  # nothing is typed yet
        until(page, "document.getElementById('review-status').textContent.includes('2 boxes drawn, all saved')")
        page.keyboard.press("z")
        until(page, "document.getElementById('review-status').textContent.includes('1 box drawn, all saved')")
        (one,) = read_corrections(log).latest().values()
        assert (one.path, one.new, one.old, one.verdict) == ("turned.jpg", HOSTILE, None, "category")
        assert one.xyxy == pytest.approx((45, 225, 120, 300), abs=2.5)
        assert page.inner_text("#detail .path") == "turned.jpg"  # the image stays: there may be more in it

        page.click("#review-learn")
        page.wait_for_selector("#notes li")
        assert "1 exemplar, 1 new category" in page.inner_text("#notes")
        assert "1 image encoded" in page.inner_text("#notes")  # the crop
        page.wait_for_selector(".region.drawn")
        assert page.inner_text(".region.drawn") == HOSTILE
    vectors = Memory.open(place / "memory").vectors
    present = stored_exemplars(vectors)
    names = {category.id: category.name for category in vectors.categories}
    assert [(names[i], r) for i, r in zip(present.category_ids, present.references, strict=True)] == [
        (HOSTILE, one.key)
    ]
    rows = [json.loads(line) for line in (place / "rows.learnt.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == ["turned.jpg"]  # a drawn box is no row of the run


def test_on_the_picture_of_a_box_others_are_drawn_in_pixels_of_the_whole_image(page, tmp_path):
    draw_image(tmp_path / "photos" / "a.jpg", (900, 600), square=(450, 90, 599, 239), orientation=6)
    row = result("a.jpg", ["owl"], size_wh=(900, 600), box=("1", [400, 60, 640, 300]))
    run = write_run(tmp_path / "rows.jsonl", [row], tmp_path / "photos")
    page.goto(write_report(run, tmp_path / "page", review=True).index.as_uri())  # there is no server to talk to
    page.wait_for_selector(".picture.drawable")
    page.evaluate("document.querySelector('.stage').show(null)")
    drag(page, *red_square(page))
    assert page.evaluate("report.drawing.box") == pytest.approx([450, 90, 600, 240], abs=3)
    assert page.evaluate("document.activeElement.id") == "review-search"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("x")  # as Escape does
    assert page.evaluate("report.drawing.box") is None
