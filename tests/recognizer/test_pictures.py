import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from recognizer.errors import RecognizerError
from recognizer.images import ImageLimits
from recognizer.images.draw import PALETTE_RGB
from recognizer.images.key import display_key
from recognizer.pictures import draw_pictures, draw_row, evidence_boxes, picture_path, require_apart
from recognizer.results import CandidateRow, ErrorRow, EvidenceRow, ResultRow
from recognizer.results.row import RowBox

BOX, NEAR, FAR = (10, 10, 110, 110), (12, 10, 112, 111), (200, 10, 260, 60)


def piece(description, value, box=BOX, term="region_description"):
    region = None if box is None else 1
    return EvidenceRow(
        term=term,
        description=description,
        region=region,
        box_xyxy=box,
        value=value,
        weight=0.1,
        contribution=0.1 * value,
    )


def result(path="a.jpg", evidence=(), **changes):
    best = CandidateRow(category="cat", score=0.3, confidence=0.6, evidence=evidence)
    fields = {"label": "cat", "confidence": 0.6, "calibrated": False, "unknown": None, "candidates": [best]}
    return ResultRow(path=path, **(fields | changes))


def test_weak_evidence_is_left_out_and_boxes_that_coincide_are_one_with_several_lines():
    evidence = [
        piece("launch", 0.338, term="region_name"),
        piece("tower", 0.218, NEAR),
        piece("plume", 0.2, FAR),
        piece("whole", 0.9, None),  # a comparison with the whole image is neither drawn nor part of the mean
        piece("smoke", 0.061, FAR),
        piece("launch", 0.3),
    ]
    boxes, captions = evidence_boxes(evidence)
    assert boxes == [BOX, FAR]
    assert captions == [["0.34 launch", "0.22 tower"], ["0.20 plume"]]


def test_the_bound_is_a_share_of_the_mean_over_the_regions_of_the_category():
    for weak, shown in ((0.53, False), (0.54, True)):  # 0.7 of the mean of 1 and itself is 0.536 and 0.539
        _, captions = evidence_boxes([piece("strong", 1.0), piece("weak", weak, FAR)])
        assert len(captions) == 1 + shown


def test_at_most_three_boxes_with_five_lines_each_are_drawn():
    many = [piece(f"text {i}", 0.5, (i * 100, 0, i * 100 + 50, 50)) for i in range(5)]
    assert len(evidence_boxes(many)[0]) == 3
    assert len(evidence_boxes([piece(f"text {i}", 0.5) for i in range(9)])[1][0]) == 5


@pytest.mark.parametrize("evidence", [[], [piece("cat", 0.5, None)], [piece("cat", -0.1)]])
def test_a_picture_without_region_evidence_says_so(evidence):
    boxes, ((line,),) = evidence_boxes(evidence)
    assert boxes == [None]
    assert line.startswith("no region evidence: ")
    grey = Image.new("RGB", (900, 600), (90, 90, 90))
    foot = np.asarray(draw_row(grey, result(evidence=evidence)))[-20:]
    assert (foot == PALETTE_RGB[0]).all(-1).any()


def test_every_row_can_be_drawn_and_its_label_is_part_of_the_picture():
    grey = Image.new("RGB", (900, 600), (90, 90, 90))
    row = result(evidence=[piece("cat", 0.5)])
    rolled_up = replace(row, label="mammal", label_level=1, label_path="mammal", source="rolled up")
    nothing = result(candidates=[], label=None, confidence=None)
    pictures = [draw_row(grey, each) for each in (row, replace(row, status="below", label=None), nothing, rolled_up)]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_a_given_box_is_drawn_in_the_first_colour_with_what_it_was_given_as():
    grey = Image.new("RGB", (900, 600), (90, 90, 90))
    plain = result(evidence=[piece("cat", 0.5, box=None)])
    box = RowBox(id="a", xyxy=(300, 200, 600, 400))
    boxed = [replace(plain, box=each) for each in (box, replace(box, category="animal"))]
    pictures = [np.asarray(draw_row(grey, each)) for each in (plain, *boxed)]
    top = pictures[0].shape[0] - 600  # of the title
    edge = (slice(top + 250, top + 350), slice(300, 306))
    assert not (pictures[0][edge] == PALETTE_RGB[0]).all(-1).any()
    assert (pictures[1][edge] == PALETTE_RGB[0]).all(-1).any()
    assert (pictures[1] != pictures[2]).any()


KEYS = st.lists(
    st.sampled_from(
        ["a", "b.jpg", "a.evidence.jpg", "a.evidence.jpg_", "..", ".", ".._", "x" * 250, "x" * 251, "ä\udcff"]
    ),
    min_size=1,
    max_size=4,
).map(lambda parts: display_key(os.fsencode("/".join(parts))))


@given(KEYS, KEYS)
@example("a.jpg", "a.png")
@example("a", "a.evidence.jpg/b")
@example("a.evidence.jpg/b", "a.evidence.jpg_/b")
def test_pictures_of_distinct_images_are_distinct_files_inside_the_folder(one, other):
    folder = Path("/pictures")
    paths = [picture_path(folder, key) for key in (one, other)]
    for path in paths:
        assert Path(os.path.normpath(path)).is_relative_to(folder)
        assert ".." not in path.parts
        assert path.name.endswith(".evidence.jpg")
        assert all(len(os.fsencode(part)) <= 252 for part in path.parts[2:])
        assert not any(parent.name.endswith(".evidence.jpg") for parent in path.parents)
    assert (paths[0] == paths[1]) == (one == other)


def test_an_absolute_key_stays_inside():
    assert picture_path(Path("p"), "/data/a.jpg") == Path("p/data/a.jpg.evidence.jpg")


def test_pictures_among_the_images_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    for folder, source in (
        ("photos/out", "photos"),
        ("photos", "photos"),
        ("photos/x/y", "photos/**/*.jpg"),
        ("o", "**"),
    ):
        with pytest.raises(RecognizerError, match="choose a folder outside"):
            require_apart(Path(folder), [source])
    for folder, source in (
        ("out", "photos"),
        ("photos2", "photos"),
        ("photos/out", "photos/*.jpg"),
        ("o", "photos/a.jpg"),
    ):
        require_apart(Path(folder), [source])


def draw(rows, photos, folder):
    return list(draw_pictures(rows, photos, folder, limits=ImageLimits(), workers=2))


def test_a_run_has_a_picture_per_recognised_image_and_a_finished_one_is_kept(photos, tmp_path):
    rows = [
        result("cat.jpg", [piece("cat", 0.5, (70, 61, 416, 246))]),
        ErrorRow(path="broken.jpg", code="E_EMPTY", reason="no bytes"),
        result("coffee.jpg", [piece("cup", 0.5)]),
        result("gone.jpg", [piece("cup", 0.5)]),
    ]
    outcomes = draw(rows, photos, tmp_path / "out")
    assert [outcome and outcome.code for outcome in outcomes] == [None, None, None, "E_NOT_FOUND"]
    cat, coffee = sorted((tmp_path / "out").iterdir())
    assert (cat.name, coffee.name) == ("cat.jpg.evidence.jpg", "coffee.jpg.evidence.jpg")
    with Image.open(cat) as picture, Image.open(photos / "cat.jpg") as photograph:
        expected = draw_row(photograph, rows[0])
        assert picture.size == expected.size
        difference = ImageChops.difference(picture.convert("RGB"), expected)
        assert np.asarray(difference).mean() < 4  # of 255; what JPEG and a reduced photograph lose
    before = [path.stat() for path in (cat, coffee)]
    rows[2] = result("coffee.jpg", [piece("cup", 0.6)])
    draw(rows, photos, tmp_path / "out")
    after = [path.stat() for path in (cat, coffee)]
    assert (before[0].st_ino, before[0].st_mtime_ns) == (after[0].st_ino, after[0].st_mtime_ns)
    assert before[1].st_ino != after[1].st_ino or before[1].st_mtime_ns != after[1].st_mtime_ns


def test_a_torn_picture_is_drawn_again(photos, tmp_path):
    rows = [result("cat.jpg", [piece("cat", 0.5)])]
    path = picture_path(tmp_path, "cat.jpg")
    path.write_bytes(b"\xff\xd8")
    draw(rows, photos, tmp_path)
    with Image.open(path) as picture:
        picture.load()
