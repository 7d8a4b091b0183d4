"""Rows in a notebook: pictures with boxes in the right place, and names as text alone."""

import base64
import html
import inspect
import io
import re
import sys
import textwrap
from dataclasses import replace
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from nbclient import NotebookClient
from PIL import Image

from recognizer import RowList
from recognizer.notebook import MOST_SHOWN
from recognizer.report.folder import ReportRefused
from recognizer.results import ErrorRow
from tests.recognizer.report.runs import draw_image, result, write_run

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(2)</script>',
    "{{7*7}}",
    "$x^2$",
    "\u202egpj.exe",
    "w" * 9000,
]
SIZE, SQUARE = (600, 900), [90, 450, 239, 599]
REGION = [90.0, 450.0, 240.0, 600.0]


def html_of(rows):
    """What a notebook shows of them."""
    return DisplayFormatter().format(rows)[0]["text/html"]


def pictures(shown):
    """The pictures of some HTML, decoded."""
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', shown)
    ]


def read(folder, *rows):
    return RowList.read(write_run(folder / "results.jsonl", rows, folder / "photos"))


def extent(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("orientation", [None, 6])
def test_a_row_shows_its_picture_with_the_box_in_the_right_place_and_without_exif(tmp_path, orientation):
    draw_image(tmp_path / "photos" / "a.jpg", SIZE, square=SQUARE, orientation=orientation)
    (row,) = read(tmp_path, result("a.jpg", [("snowy owl", "bird"), "cat"], size_wh=SIZE, region=REGION))
    shown = html_of(row)
    for text in ("snowy owl", "bird", "60.0%", "cat", "20.0%", "a.jpg", "yellow eyes"):
        assert text in shown
    (picture,) = pictures(shown)
    assert picture.size == (341, 512)
    assert not picture.getexif()
    assert b"at home" not in base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1])
    pixels = np.asarray(picture).astype(int)
    red = (pixels[..., 0] > 180) & (pixels[..., 1:].max(-1) < 80)
    line = (pixels[..., 0] > 150) & (pixels[..., 1] > 110) & (pixels[..., 2] < 110)
    assert extent(line) == pytest.approx([edge * 512 / 900 for edge in REGION], abs=2)
    assert extent(red) == pytest.approx(extent(line), abs=3)


def test_a_row_about_a_box_shows_it(tmp_path):
    draw_image(tmp_path / "photos" / "a.jpg", SIZE)
    (row,) = read(tmp_path, result("a.jpg", ["owl"], size_wh=SIZE, region=[0, 0, 20, 20], box=("1", REGION)))
    assert "the box that was recognised" in html_of(row)
    pixels = np.asarray(pictures(html_of(row))[0]).astype(int)
    line = (pixels[..., 0] > 150) & (pixels[..., 1] > 110) & (pixels[..., 2] < 110)
    assert extent(line) == pytest.approx([edge * 512 / 900 for edge in REGION], abs=2)


def test_what_cannot_be_shown_costs_its_picture_alone(tmp_path):
    draw_image(tmp_path / "outside.jpg", SIZE)
    rows = read(
        tmp_path,
        result("gone.jpg", ["owl"]),
        result("../outside.jpg", ["cat"]),
        ErrorRow(path="c.jpg", code="E_EMPTY", reason="no <bytes>"),
        result("d.jpg", ["owl"], confidence=0.5, label="odd", calibrated=False, candidates=[]),
    )
    shown = html_of(rows)
    assert pictures(shown) == []
    for text in ("owl", "cat", "E_EMPTY: no &lt;bytes&gt;", "not calibrated"):
        assert text in shown
    object.__setattr__(rows[0], "confidence", "much")
    assert "cannot be shown" in html_of(rows[0])
    with pytest.raises(ReportRefused, match="no folder"):
        RowList.read(tmp_path / "results.jsonl", images=tmp_path / "none")


def test_hostile_names_are_text(tmp_path):
    rows = read(tmp_path, *(result(f"{n}{name[:99]}", [(name, name)]) for n, name in enumerate(HOSTILE)))
    for shown in (html_of(rows), *(html_of(row) for row in rows)):
        assert set(re.findall(r"<(\w+)", shown)) <= {"div", "b", "bdi", "span"}
        assert 'class="tex2jax_ignore mathjax_ignore"' in shown
    for row, name in zip(rows, HOSTILE, strict=True):
        assert html.escape(name[:500], quote=False) in html_of(row).replace("&#34;", '"')


def test_a_gallery_shows_the_first_rows_and_counts_the_others(tmp_path):
    draw_image(tmp_path / "photos" / "0.jpg", SIZE)
    rows = read(tmp_path, *(result(f"{number}.jpg", ["owl"], size_wh=SIZE) for number in range(MOST_SHOWN + 2)))
    shown = html_of(rows)
    assert shown.count(">60.0%<") == MOST_SHOWN
    assert "and 2 more rows" in shown
    assert [picture.size for picture in pictures(shown)] == [(133, 200)]
    assert isinstance(rows[:2], RowList)
    assert "more row" not in html_of(rows[:2])
    assert rows == list(rows)
    assert "no rows" in html_of(RowList())


def test_recognised_images_show_themselves_whatever_they_came_as(demo_recognizer, photos):
    sources = [photos / "cat.jpg", (photos / "cat.jpg").read_bytes(), Image.open(photos / "cat.jpg"), b"no image"]
    rows = demo_recognizer.recognize(sources)
    assert len(pictures(html_of(rows))) == 3
    assert rows[0].label in html_of(rows[0])
    assert "E_NOT_IMAGE" in html_of(rows[3])
    (row,) = demo_recognizer.recognize_folder([photos / "cat.jpg"])
    assert len(pictures(html_of(row))) == 1
    assert row == rows[0]


class Part:
    """A stand-in for the documents of FiftyOne, which is not installed here."""

    def __init__(self, *names, **fields):
        self.detections, self.samples, self.names = [], [], names
        self.__dict__.update(fields)

    def __setitem__(self, name, value):
        setattr(self, name, value)

    def add_samples(self, samples):
        self.samples += samples


def test_the_lines_for_fiftyone_give_each_image_its_label_and_boxes(tmp_path, monkeypatch):
    names = ("Sample", "Detections", "Detection", "Classification", "Dataset")
    monkeypatch.setitem(sys.modules, "fiftyone", SimpleNamespace(**dict.fromkeys(names, Part)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    half = {"size_wh": (60, 90), "region": [30, 0, 60, 90]}
    read(
        tmp_path,
        result("a.jpg", ["owl"], **half),
        ErrorRow(path="b.jpg", code="E_EMPTY", reason="no bytes"),
        *(result("c.jpg", ["cat"], box=(box, [0, 45, 30, 90]), **half) for box in "12"),
    )
    code = inspect.cleandoc(RowList.__doc__).partition("::\n")[2]
    scope = {}
    exec(textwrap.dedent(code), scope)
    one, other = scope["dataset"].samples
    assert [sample.filepath for sample in (one, other)] == [
        str(tmp_path / "photos" / name) for name in ("a.jpg", "c.jpg")
    ]
    assert (one.label.label, one.label.confidence) == ("owl", 0.6)
    assert [(box.label, box.bounding_box) for box in one.boxes.detections] == [
        ("owl", [0.5, 0, 0.5, 1]),
        ("yellow eyes", [0.5, 0, 0.5, 1]),
    ]
    assert [(box.label, box.bounding_box) for box in other.boxes.detections] == [("cat", [0, 0.5, 0.5, 0.5])] * 2


def test_a_notebook_shows_rows(tmp_path):
    draw_image(tmp_path / "photos" / "a.jpg", SIZE)
    rows = [result("a.jpg", [HOSTILE[0]], size_wh=SIZE), result("b.jpg", ["owl"])]
    plain = [replace(row, candidates=[replace(row.candidates[0], evidence=[])]) for row in rows]  # loads no torch
    read(tmp_path, *plain)
    cells = ["from recognizer import RowList\nrows = RowList.read('results.jsonl')\nrows", "rows[0]"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    gallery, row = (cell.outputs[0]["data"]["text/html"] for cell in notebook.cells)
    assert [picture.size for picture in pictures(gallery) + pictures(row)] == [(133, 200), (341, 512)]
    for shown in (gallery, row):
        assert "&lt;img src=x onerror" in shown
        assert "<img src=x" not in shown
