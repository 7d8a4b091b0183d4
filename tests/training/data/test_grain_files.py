"""Annotations of GRAIN's released code become a manifest that training reads."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from recognizer.images import ImageLimits
from training.data.grain_files import check_boxes, convert, main
from training.data.record import Rejects
from training.data.sources import open_sources, read_sample
from training.errors import DataError


def region(text, box, score=0.5):
    return {"description": text, "bbox": box, "score": score}


def image(path, size_wh=(480, 240), exif=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = Image.new("RGB", size_wh)
    saved.save(path, exif=exif or Image.Exif())


def write(folder, *, captions=None, boxes=None, original=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "captions_cc12m_pooled.json").write_text(json.dumps(captions or {}))
    (folder / "bboxes_cc12m_pooled.json").write_text(json.dumps(boxes or {}))
    if original is not None:
        (folder / "captions_pooled.csv").write_text("".join(f'{name},"{text}"\n' for name, text in original.items()))


def read(manifest):
    source, rejects = open_sources([manifest]), Rejects()
    samples = [
        read_sample(source, row, rejects, limits=ImageLimits(), target_size_hw=(32, 32)) for row in range(len(source))
    ]
    assert rejects.report() == "0 of 0 samples could not be used"
    return {key: record for key, _, record in samples}


def test_boxes_come_from_the_squashed_frame_to_pixels_of_the_image(tmp_path):
    image(tmp_path / "a.jpg")
    boxes = {"a.jpg": [region("- a red crest", [96, 480, 960, 960], 0.75)]}
    write(
        tmp_path, captions={"a.jpg": "A bird stands."}, boxes=boxes, original={"path": "title", "a.jpg": "bird, 2010"}
    )
    rejects = convert(tmp_path, tmp_path / "m.jsonl")
    assert rejects.report() == "0 of 1 samples could not be used"
    (record,) = read(tmp_path / "m.jsonl").values()
    assert record.captions == ("bird, 2010", "A bird stands.")
    (found,) = record.regions
    assert found.box_xyxy == pytest.approx((48, 120, 480, 240))
    assert (found.descriptions, found.score) == (("a red crest",), 0.75)


def test_a_box_and_its_description_stay_together_when_others_are_left_out(tmp_path):
    image(tmp_path / "a.jpg", (960, 960))
    boxes = [
        region("flat", [5, 5, 5, 90]),
        region("<pad>", [0, 0, 9, 9]),
        region("beyond", [970, 0, 990, 50]),
        region("wide", [-30, 0, 990, 50]),
        region("twice", [100, 100, 200, 200], 0.4),
        region("once more", [100, 100, 200, 200], 0.6),
        region(" ", [0, 0, 9, 9]),
        region("three", [0, 0, 9]),
        region("text", ["x", 0, 9, 9]),
        region("sure", [0, 0, 9, 9], 1.5),
        "no object",
    ]
    write(tmp_path, captions={"a.jpg": "x"}, boxes={"a.jpg": boxes})
    rejects = convert(tmp_path, tmp_path / "m.jsonl")
    (record,) = read(tmp_path / "m.jsonl").values()
    assert [(found.box_xyxy, found.descriptions, found.score) for found in record.regions] == [
        ((0, 0, 960, 50), ("wide",), 0.5),
        ((100, 100, 200, 200), ("twice", "once more"), 0.6),
    ]
    assert rejects.parts == {
        "box with x1 <= x0 or y1 <= y0": 2,
        "padding for a description": 1,
        "empty description": 1,
        "region without a description": 1,
        "box that is not four numbers": 2,
        "score that is not a number from 0 to 1": 1,
        "region that is not an object": 1,
    }


def test_images_that_cannot_be_used_are_counted_by_their_reason(tmp_path):
    image(tmp_path / "in" / "a.jpg")
    image(tmp_path / "in" / "b.jpg")
    (tmp_path / "in" / "c.jpg").write_bytes(b"no image")
    boxes = {"b.jpg": [region("<pad>", [0, 0, 9, 9])], "a.jpg": {"not": "a list"}}
    write(tmp_path / "in", captions={"a.jpg": ["one", "two"], "c.jpg": "x", "gone.jpg": "x"}, boxes=boxes)
    rejects = convert(tmp_path / "in", tmp_path / "out.jsonl")
    assert rejects.seen == 4
    assert rejects.samples == {"no caption": 1, "missing image": 1, "unreadable image": 1}
    assert rejects.parts == {"boxes that are not a list": 1}
    assert {key: record.captions for key, record in read(tmp_path / "out.jsonl").items()} == {
        "in/a.jpg": ("one", "two")
    }


def test_boxes_of_an_image_that_exif_turns_are_left_out(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image(tmp_path / "a.jpg", exif=exif)
    write(tmp_path, captions={"a.jpg": "x"}, boxes={"a.jpg": [region("wing", [0, 0, 96, 96])]})
    rejects = convert(tmp_path, tmp_path / "m.jsonl")
    assert rejects.parts == {"box in an image that EXIF turns": 1}
    assert read(tmp_path / "m.jsonl")["a.jpg"].regions == ()


def test_images_may_lie_elsewhere_and_the_frame_have_another_side(tmp_path):
    image(tmp_path / "images" / "a.jpg", (448, 224))
    write(tmp_path / "in", captions={"a.jpg": "x"}, boxes={"a.jpg": [region("wing", [0, 0, 112, 224])]})
    (tmp_path / "out").mkdir()
    convert(tmp_path / "in", tmp_path / "out" / "m.jsonl", images=tmp_path / "images", frame=224)
    ((key, record),) = read(tmp_path / "out" / "m.jsonl").items()
    assert key == str(tmp_path / "images" / "a.jpg")
    assert record.regions[0].box_xyxy == pytest.approx((0, 0, 224, 224))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda box: [box[0], box[1], box[2] - box[0], box[3] - box[1]], "look like left, top, width, height"),
        (lambda box: [edge / 960 for edge in box], r"largest coordinate of a box is 0\.\d+; expected .* 960 by 960"),
        (lambda box: [edge * 224 / 960 for edge in box], "--frame names another side"),
        (lambda box: [edge * 3 for edge in box], "largest coordinate"),
    ],
)
def test_boxes_in_another_order_or_unit_are_refused(change, said):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 960, size=(40, 2, 2)), axis=1).reshape(40, 4)
    good = {str(number): [region("x", box)] for number, box in enumerate(corners.tolist())}
    check_boxes(good, 960)
    changed = {name: [region("x", change(each["bbox"])) for each in entries] for name, entries in good.items()}
    with pytest.raises(DataError, match=said):
        check_boxes(changed, 960)
    check_boxes(dict(list(changed.items())[:19]), 960)  # too few to say


def test_other_folders_and_files_are_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "desc_cc3m_0.json").touch()
    with pytest.raises(DataError, match=r"has desc_cc3m_0\.json; expected captions_\*\.json and bboxes_\*\.json"):
        convert(tmp_path, tmp_path / "m.jsonl")
    write(tmp_path, captions={"gone.jpg": "x"})
    with pytest.raises(DataError, match=r"no image can be used: 1 of 1 samples could not be used: missing image 1"):
        convert(tmp_path, tmp_path / "m.jsonl")
    assert not (tmp_path / "m.jsonl").exists()
    with pytest.raises(DataError, match="--frame 0 is not"):
        convert(tmp_path, tmp_path / "m.jsonl", frame=0)
    (tmp_path / "bboxes_more.json").write_text("[]")
    with pytest.raises(DataError, match="not a JSON object with images as keys"):
        convert(tmp_path, tmp_path / "m.jsonl")
    (tmp_path / "bboxes_more.json").write_text("{")
    monkeypatch.setattr(sys, "argv", ["grain_files", str(tmp_path), str(tmp_path / "m.jsonl")])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "bboxes_more.json is not JSON" in capsys.readouterr().err


def test_the_command_says_what_it_wrote(tmp_path, monkeypatch, capsys):
    image(tmp_path / "a.jpg")
    write(tmp_path, captions={"a.jpg": "x", "gone.jpg": "y"})
    monkeypatch.setattr(sys, "argv", ["grain_files", str(tmp_path), str(tmp_path / "m.jsonl")])
    main()
    said = capsys.readouterr().err
    assert "1 of 2 samples could not be used: missing image 1" in said
    assert "1 image in " in said
