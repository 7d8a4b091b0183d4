"""The page in a real browser, as a person uses it."""

import io

import numpy as np
import pytest
from PIL import Image

from memory import Category
from recognizer.report import write_report
from recognizer.report.row_data import margin_of
from recognizer.results import ErrorRow
from tests.memory.building import build
from tests.memory.fake_encoder import HashEncoder
from tests.recognizer.report.runs import LABELS, draw_image, mixed_rows, result, write_run

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(2)</script>',
    "</title><svg onload=alert(3)>",
    "javascript:alert(4)",
    "{{7*7}}${alert(5)}",
    "__proto__",
    "كوب من الشاي ‮gpj.exe",
    "👩‍🔬🦉" * 20,
    "w" * 10_000,
]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """2,000 rows of every kind, with a truth and another run; the first two have pictures."""
    folder = tmp_path_factory.mktemp("mixed")
    rows = mixed_rows(2000)
    for row in rows[:2]:
        draw_image(folder / "photos" / row.path)
    other = [
        result(row.path, [(each.category, each.group) for each in row.candidates[1::-1]], seed=99)
        if number % 100 == 3
        else row
        for number, row in enumerate(rows)
        if number % 100 != 5
    ]
    truth = folder / "truth.csv"
    truth.write_text("path,label\n" + "".join(f"{row.path},{row.path.split('/')[0]}\n" for row in rows))
    write_run(folder / "other.jsonl", other, folder, settings={"score": {"image_name": 0.3}})
    run = write_run(folder / "results.jsonl", rows, folder / "photos")
    return rows, write_report(run, folder / "report", truth=truth, against=folder / "other.jsonl")


def shown(page):
    return page.inner_text("#shown")


def chosen(page):
    """The path of the chosen row, once its details are here."""
    number = page.get_attribute("#list", "aria-activedescendant").removeprefix("row-")
    page.wait_for_selector(f"#detail[data-row='{number}']", state="attached")
    return page.text_content("#detail .path")


def one_row(tmp_path, *rows, name="results.jsonl"):
    return write_report(write_run(tmp_path / name, rows, tmp_path / "photos"), tmp_path / "report")


def test_filters_show_the_rows_that_they_say(mixed, watched):
    rows, report = mixed
    page = watched.open(report)
    assert shown(page) == "2,000 rows"
    assert 5 < page.locator(".card").count() < 60  # only what can be seen exists
    unknown = [row for row in rows if getattr(row, "unknown", False)]
    failed = [row for row in rows if isinstance(row, ErrorRow)]
    page.check("#statuses label.unknown input")
    assert shown(page) == f"{len(unknown)} of 2,000 rows"
    page.check("#statuses label.failed input")  # either
    assert shown(page) == f"{len(unknown) + len(failed)} of 2,000 rows"
    page.uncheck("#statuses label.unknown input")
    page.click("#codes .choice >> nth=0")
    assert shown(page).startswith(
        f"{sum(row.code == page.inner_text('#codes .choice .name >> nth=0') for row in failed)} of"
    )
    page.click(".chip.clear")
    name, _ = LABELS[2]
    page.click(f"#labels .choice:has-text('{name}')")
    assert shown(page) == f"{sum(row.label == name for row in rows)} of 2,000 rows"
    page.locator("#confidence-from").fill("0.9")
    assert shown(page) == f"{sum(row.label == name and row.confidence >= 0.9 for row in rows)} of 2,000 rows"
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    assert shown(page) == "2,000 rows"
    page.fill("#search", "/00012")
    assert shown(page) == "10 of 2,000 rows"
    page.fill("#search", "no such name")
    assert "No row fits" in page.inner_text("#empty")
    page.click("#empty button")
    page.click("#groups .choice:has-text('animal') >> nth=0")
    animals = [row for row in rows if row.label in ("snowy owl", "barn owl", "雪鴞", "tabby cat", "bird")]
    assert shown(page) == f"{len(animals):,} of 2,000 rows"


def test_the_keyboard_reaches_everything(mixed, watched):
    rows, report = mixed
    page = watched.open(report)
    assert chosen(page) == rows[0].path
    for key, number in [("j", 1), ("ArrowRight", 2), ("k", 1), ("ArrowLeft", 0), ("End", 1999), ("Home", 0)]:
        page.keyboard.press(key)
        assert chosen(page) == rows[number].path, key
        assert page.get_attribute("#list", "aria-activedescendant") == f"row-{number}"
    page.keyboard.press("ArrowDown")
    below = chosen(page)
    page.keyboard.press("ArrowUp")
    assert [row.path for row in rows].index(below) > 1
    page.keyboard.press("f")
    page.keyboard.type("jk?")
    assert page.input_value("#search") == "jk?"
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    page.keyboard.press("?")
    assert page.is_visible("#help")
    assert "next image" in page.inner_text("#help")
    page.keyboard.press("Escape")
    page.wait_for_selector("body:not(:has(#help :focus))")  # the browser closes it a moment later
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail:focus")
    for _ in range(3):  # file name, first candidate, first piece of evidence
        page.keyboard.press("Tab")
    assert "piece" in page.evaluate("document.activeElement.className")
    assert page.is_visible(".region.shown")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    margins = {number: margin_of(row) for number, row in enumerate(rows) if row.candidates}
    assert page.get_attribute(".card[aria-posinset='1']", "id") == f"row-{min(margins, key=margins.get)}"


def test_confusions_and_changes_lead_to_their_rows(mixed, watched):
    _, report = mixed
    page = watched.open(report)
    page.click("[data-view=matrix]")
    cell = page.locator(".matrix td.differs button").first
    count, names = cell.inner_text(), cell.get_attribute("aria-label")
    cell.click()
    assert shown(page).split(" of ")[0] == count
    truth, label = names.removeprefix("truth ").split(": ")[0].split(", label ")
    assert chosen(page).split("/")[0] == truth
    assert page.inner_text("#detail .verdict .label") == label
    page.click("[data-view=compare]")
    changed = sum(number % 100 == 3 for number in range(2000))
    assert page.inner_text(".figure strong >> nth=0") == str(changed)
    assert "score.image_name" in page.inner_text("#other-view")
    page.click(".pairs .cell >> nth=0")
    assert "leads" in page.inner_text("#detail .compare")
    table = [line.replace("−", "-").split("\t") for line in page.locator(".terms tbody tr").all_inner_texts()]
    *terms, (name, *score) = [(line[0], *map(float, line[1:])) for line in table]
    assert name == "score"
    for column in range(3):
        assert score[column] == pytest.approx(sum(term[1 + column] for term in terms), abs=5e-4)
    assert score[2] == pytest.approx(score[1] - score[0], abs=2e-4)
    assert abs(score[2]) > 1e-4


def test_what_no_figure_counts_is_shown_apart(tmp_path, watched):
    memory = build([Category("owl"), Category("cat")], tmp_path / "m", HashEncoder(dim=16))
    rows = [result(f"{name}.jpg", ["owl", "cat"], unknown=name == "cat") for name in ("owl", "cat", "zebra")]
    info = {"memory": {"path": str(tmp_path / "m"), "digest": memory.digest}}
    run = write_run(tmp_path / "r.jsonl", rows, tmp_path / "photos", **info)
    other = write_run(tmp_path / "o.jsonl", [result(row.path, ["owl", "cat"]) for row in rows], None)
    (tmp_path / "truth.csv").write_text("path,label\nowl.jpg,owl\ncat.jpg,cat\nzebra.jpg,zebra\n")
    page = watched.open(write_report(run, tmp_path / "report", truth=tmp_path / "truth.csv", against=other))
    assert "50.0 % of 2 right" in page.inner_text("#facts")
    page.click("[data-view=compare]")
    assert [" ".join(text.split()) for text in page.locator("#other-view .figure").all_inner_texts()][:3] == [
        "0 changed",
        "2 the same",
        "1 with the same label and another status",
    ]
    page.click("[data-view=matrix]")
    assert "1\nleft out: true name not in the memory" in page.inner_text("#other-view")
    page.click("#other-view .pairs >> nth=1 >> .cell")
    assert chosen(page) == "zebra.jpg"
    assert "truth: zebra (not in the memory)" in page.text_content("#detail .truth")


def corners(page, selector):
    box = page.locator(selector).bounding_box()
    return [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]]


@pytest.mark.parametrize("kind", ["turned", "box"])
def test_a_region_lies_where_it_was_found(tmp_path, watched, kind):
    size, square = ((600, 900), [90, 450, 239, 599])
    draw_image(tmp_path / "photos" / "a.jpg", size, square=square, orientation=6 if kind == "turned" else None)
    region = [90, 450, 240, 600]
    box = ("1", [60, 400, 300, 640]) if kind == "box" else None
    page = watched.open(one_row(tmp_path, result("a.jpg", ["owl"], size_wh=size, region=region, box=box)))
    page.hover(".piece:not(.has-region) >> nth=0")
    assert not page.is_visible(".region.shown")
    assert "whole image" in page.inner_text(".region-text")
    assert page.is_visible(".region.own") == (kind == "box")
    x, y, *_ = corners(page, ".picture")
    pixels = np.asarray(Image.open(io.BytesIO(page.locator(".picture").screenshot())).convert("RGB")).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 180) & (pixels[..., 1:].max(-1) < 80))
    seen = [x + columns.min(), y + rows.min(), x + columns.max() + 1, y + rows.max() + 1]
    page.hover(".piece.has-region >> nth=0")
    assert page.inner_text(".region-text").split() == ["region", "owl"]
    assert corners(page, ".region.shown") == pytest.approx(seen, abs=2.5)
    page.focus(".piece:not(.has-region) >> nth=0")
    page.focus(".piece.has-region >> nth=0")
    assert page.is_visible(".region.shown")


def test_hostile_names_are_shown_as_text(tmp_path, watched):
    rows = []
    for number, name in enumerate(HOSTILE):
        path = f"{number}/{name[:200]}.jpg" if number % 2 else f"{name}.jpg"
        row = result(
            path,
            [(name, f"{name} > {name}"), "other"],
            rerank={"status": "ok", "model": name, "order": [1, 0], "reasons": [name]},
        )
        rows.append(row)
    rows.append(ErrorRow(path=HOSTILE[0], code=HOSTILE[1], reason=HOSTILE[0]))
    page = watched.open(one_row(tmp_path, *rows, name="<img src=x onerror=alert(9)>.jsonl"))
    for name in HOSTILE:
        assert page.inner_text("#detail .verdict .label") == name
        assert page.evaluate("document.querySelectorAll('#detail img, #detail script, #detail svg').length") == 0
        page.keyboard.press("j")
    assert page.inner_text("#detail .reason") == HOSTILE[0]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("({}).polluted === undefined && Object.getPrototypeOf({}) === Object.prototype")
    assert page.evaluate("document.scripts.length") < 12


def test_a_script_from_data_would_be_refused(tmp_path, browser):
    """The policy of the page holds even where a text came in as markup."""
    page = browser.new_page()
    page.goto(one_row(tmp_path, result("a.jpg", ["owl"])).index.as_uri())
    refused = page.evaluate(
        """() => new Promise((resolve) => {
          document.addEventListener('securitypolicyviolation', (event) => resolve(event.violatedDirective));
          document.body.insertAdjacentHTML('beforeend', '<img src="http://127.0.0.1:9/" onerror="window.hit = 1">');
        })"""
    )
    assert refused in ("img-src", "script-src-attr")
    page.wait_for_timeout(50)
    assert page.evaluate("window.hit") is None
    page.close()


def test_a_phone_shows_one_thing_at_a_time(mixed, watched):
    rows, report = mixed
    watched.page.set_viewport_size({"width": 360, "height": 740})
    page = watched.open(report)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert not page.is_visible("#filters")
    assert not page.is_visible("#detail")
    page.click(".card >> nth=1")
    assert page.is_visible("#detail")
    assert chosen(page) == rows[1].path
    page.click("#detail-close")
    page.click("#filters-button")
    page.check("#statuses label.failed input")
    page.click("#filters-close")
    assert not page.is_visible("#filters")
    assert shown(page).endswith("of 2,000 rows")


def test_an_empty_run_says_so(tmp_path, watched):
    page = watched.open(one_row(tmp_path))
    assert "This run has no rows." in page.inner_text("#empty")


def test_a_missing_script_is_named(mixed, tmp_path, watched):
    report = one_row(tmp_path, result("a.jpg", ["owl"]))
    (report.index.parent / "rows" / "details-0000.js").unlink()
    page = watched.open(report)
    assert "details-0000.js is missing" in page.inner_text("#notes")
    watched.wrong.clear()  # the browser says it too


@pytest.mark.slow
def test_a_hundred_thousand_rows_stay_usable(tmp_path, watched):
    rows = mixed_rows(100_000)
    page = watched.open(one_row(tmp_path, *rows))
    assert shown(page) == "100,000 rows"
    page.keyboard.press("End")
    page.wait_for_selector("#row-99999")
    assert page.locator(".card").count() < 60
    page.check("#statuses label.unknown input")
    assert shown(page).startswith(f"{sum(getattr(row, 'unknown', False) for row in rows):,} of")
