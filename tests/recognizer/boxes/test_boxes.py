"""`run --boxes` and `eval --boxes` from end to end, on a picture of two photographs side by side."""

import csv
import json
import os

import pytest
from PIL import Image

from recognizer.errors import RecognizerError
from recognizer.features import FeatureStore
from recognizer.results import ResumeRefused
from tests.recognizer.commands import call

LABELS = "name,description\ntabby cat,striped fur\ncup of coffee,a saucer\nrocket launch,\nred fox,\nbrick wall,\n"
SIDE = 300


@pytest.fixture(scope="module")
def world(tmp_path_factory, photos, encoders_loaded_once):
    root = tmp_path_factory.mktemp("boxes")
    (root / "labels.csv").write_text(LABELS)
    call("build", root / "labels.csv", "--memory", root / "memory", "--precision", "fp32")
    (root / "images").mkdir()
    both = Image.new("RGB", (2 * SIDE, SIDE))
    for place, name in enumerate(("cat", "coffee")):
        both.paste(Image.open(photos / f"{name}.jpg").convert("RGB").resize((SIDE, SIDE)), (place * SIDE, 0))
    both.save(root / "images" / "both.png")
    exif = Image.Exif()
    exif[274] = 6  # stored on its side
    both.transpose(Image.Transpose.ROTATE_90).save(root / "images" / "turned.jpg", exif=exif)
    (root / "images" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    both.resize((64, 32)).save(root / "images" / "plain.png")
    (root / "secret.png").write_bytes((root / "images" / "both.png").read_bytes())
    os.symlink(root / "secret.png", root / "images" / "link.png")
    (root / "annotations.json").write_text(json.dumps(annotations()))
    return root


def annotations():
    images = {
        1: {"file_name": "both.png", "width": 2 * SIDE, "height": SIDE},
        2: {"file_name": "turned.jpg", "width": 2 * SIDE, "height": SIDE},
        3: {"file_name": "broken.jpg", "width": 9, "height": 9},
        4: {"file_name": "../secret.png", "width": 9, "height": 9},
        5: {"file_name": "link.png", "width": 9, "height": 9},
        6: {"file_name": "gone.png", "width": 9, "height": 9},
    }
    left, right = [0, 0, SIDE, SIDE], [SIDE, 0, SIDE, SIDE]
    boxes = [(1, 1, left), (1, 2, right), (2, 1, left), (2, 2, right), (3, 1, [0, 0, 5, 5]), (4, 1, [0, 0, 5, 5])]
    boxes += [(5, 1, [0, 0, 5, 5]), (6, 1, [0, 0, 5, 5]), (1, 3, [700, 0, 20, 20]), (1, 3, [5, 5, 0, 20])]
    return {
        "images": [{"id": number, **image} for number, image in images.items()],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
            for number, (image, category, box) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": 1, "name": "Tabby cat"}, {"id": 2, "name": "cup of coffee"}, {"id": 3, "name": "gnu"}],
    }


def run(world, output, *more):
    place = ("--memory", world / "memory", "--output", output, "--precision", "fp32")
    code, _, err = call("run", world / "images", *place, *more)
    return code, err


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def done(world):
    code, err = run(
        world, world / "r.jsonl", "--boxes", world / "annotations.json", "--coco", world / "c.json",
        "--megadetector", world / "md.json", "--pictures", world / "pictures", "--set", "run.max_failed=1",
    )  # fmt: skip
    return code, err, rows_of(world / "r.jsonl")


def test_each_box_has_a_row_and_what_is_wrong_with_one_costs_no_other(world, done):
    code, err, rows = done
    by_status = [(row["path"], row["status"], row.get("error", {}).get("code")) for row in rows]
    assert by_status == [
        ("both.png", "ok", None),
        ("both.png", "ok", None),
        ("both.png", "error", "E_BOX"),
        ("both.png", "error", "E_BOX"),
        ("broken.jpg", "error", by_status[4][2]),
        ("plain.png", "empty", None),
        ("turned.jpg", "ok", None),
        ("turned.jpg", "ok", None),
        ("../secret.png", "error", "E_OUTSIDE"),
        ("link.png", "error", "E_OUTSIDE"),
        ("gone.png", "error", "E_NOT_FOUND"),
    ]
    good = [row for row in rows if row["status"] == "ok"]
    assert [row["label"] for row in good] == ["tabby cat", "cup of coffee"] * 2
    assert [row["box"]["category"] for row in good] == ["Tabby cat", "cup of coffee"] * 2
    assert [row["box"]["xyxy"] for row in good] == [[0, 0, SIDE, SIDE], [SIDE, 0, 2 * SIDE, SIDE]] * 2
    for row in good:
        assert (row["width"], row["height"]) == (2 * SIDE, SIDE)
        left, _, right, _ = row["box"]["xyxy"]
        for piece in row["candidates"][0]["evidence"]:
            if piece["box_xyxy"]:  # the evidence lies in the box
                assert left - SIDE / 2 <= piece["box_xyxy"][0] < piece["box_xyxy"][2] <= right + SIDE / 2
    assert "4 boxes recognised, 1 image without a box, 6 failed" in err
    assert "10 boxes in 5 images (COCO annotations)" in err
    assert code == 0
    info = json.loads((world / "r.jsonl.run.json").read_text())
    assert sum(info["counts"].values()) == info["count"] == len(rows)


def test_results_for_other_tools(world, done):
    results = json.loads((world / "c.json").read_text())
    assert {result["image_id"] for result in results} == {1, 2}
    best = {(result["image_id"], tuple(result["bbox"])): result for result in reversed(results)}
    assert best[1, (0.0, 0.0, SIDE, SIDE)]["category_id"] == 1
    assert best[2, (SIDE, 0.0, SIDE, SIDE)]["category_id"] == 2
    assert {result["category_id"] for result in results} == {1, 2, 4, 5, 6}  # 3 is the gnu of the file
    export = ("export-results", world / "r.jsonl", "--format", "coco", "--output", world / "exported.json")
    assert call(*export)[0] == 0
    named = {(each["category_name"], each["category_id"]) for each in results}
    exported = json.loads((world / "exported.json").read_text())
    assert {(each["category_name"], each["category_id"]) for each in exported} == named
    images = {(each["file_name"], each["image_id"]) for each in results}
    assert images == {("both.png", 1), ("turned.jpg", 2)}  # without one for broken.jpg, which lies between them
    assert {(each["file_name"], each["image_id"]) for each in exported} == images
    document = json.loads((world / "md.json").read_text())
    (both,) = [image for image in document["images"] if image["file"] == "both.png"]
    names = document["classification_categories"]
    assert [names[each["classifications"][0][0]] for each in both["detections"]] == ["tabby cat", "cup of coffee"]


def test_each_box_is_drawn_in_a_picture_of_its_own(world, done):
    pictures = sorted(path.name for path in (world / "pictures").rglob("*.jpg"))
    assert len(pictures) == 4
    assert all(name.startswith(("both.png#", "turned.jpg#")) for name in pictures)


def test_a_run_that_was_cut_off_ends_with_the_same_bytes(world, done, tmp_path):
    whole = (world / "r.jsonl").read_bytes()
    for name in ("r.jsonl", "r.jsonl.images.jsonl", "r.jsonl.run.json"):
        content = (world / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 8] if name == "r.jsonl" else content)
    _, err = run(world, tmp_path / "r.jsonl", "--boxes", world / "annotations.json", "--batch-size", 3)
    assert "of 11 rows are already done" in err or "damaged" in err
    assert (tmp_path / "r.jsonl").read_bytes() == whole


def test_only_boxes_that_changed_are_done_again(world, done, tmp_path):
    lines = ["path,x1,y1,x2,y2", "both.png,0,0,300,300", "both.png,300,0,600,300"]
    (tmp_path / "b.csv").write_text("\n".join(lines))
    run(world, tmp_path / "r.csv", "--boxes", tmp_path / "b.csv")
    (tmp_path / "b.csv").write_text("\n".join([lines[0], lines[2], "both.png,10,0,300,300"]))
    _, err = run(world, tmp_path / "r.csv", "--boxes", tmp_path / "b.csv")
    assert "5 of 6 rows are already done" in err
    with (tmp_path / "r.csv").open() as stream:
        table = list(csv.DictReader(stream))
    first = [row for row in table if row["rank"] == "1"]
    assert [row["category"] for row in first] == ["cup of coffee", "tabby cat"]
    assert [row["box_x_min"] for row in first] == ["300.0", "10.0"]
    assert {row["status"] for row in table if not row["box_id"]} == {"empty"}
    with pytest.raises(ResumeRefused, match=r"boxes\.margin"):
        run(world, tmp_path / "r.csv", "--boxes", tmp_path / "b.csv", "--set", "boxes.margin=1")
    with pytest.raises(ResumeRefused, match=r"boxes\.from: was 'file'"):
        run(world, tmp_path / "r.csv")


def test_auto_finds_objects_once_and_with_stored_features_the_same_bytes(world, tmp_path, monkeypatch):
    keep, encoded = FeatureStore.keep, []

    def count(store, batch, known):
        encoded.append(len(batch.positions))
        keep(store, batch, known)

    monkeypatch.setattr(FeatureStore, "keep", count)
    images = [world / "images" / name for name in ("both.png", "broken.jpg", "link.png")]

    def run_auto(output, *more):
        place = ("--memory", world / "memory", "--precision", "fp32", "--set", "boxes.most=3")
        code, _, err = call("run", *images, *place, "--output", output, "--boxes", "auto", *more)
        assert code == 0
        return err

    run_auto(tmp_path / "r.jsonl")
    assert sum(encoded) == 2  # for their objects, and not again for the crops
    rows = rows_of(tmp_path / "r.jsonl")
    assert [(row["path"], row["status"]) for row in rows] == [
        *[("both.png", "ok")] * 3,
        ("broken.jpg", "error"),
        *[("link.png", "ok")] * 3,  # the user's own folder has it
    ]
    assert {"tabby cat", "cup of coffee"} <= {row["label"] for row in rows[:3]}
    weights = [row["box"]["confidence"] for row in rows[:3]]
    assert weights == sorted(weights, reverse=True)
    again = run_auto(tmp_path / "r.jsonl")
    assert "find objects" not in again
    assert "7 of 7 rows are already done" in again
    run_auto(tmp_path / "f.jsonl", "--features", tmp_path / "features")
    assert (tmp_path / "f.jsonl").read_bytes() == (tmp_path / "r.jsonl").read_bytes()


def test_figures_on_annotated_boxes_and_on_detections(world, done, tmp_path):
    place = ("--memory", world / "memory", "--precision", "fp32", "--boxes", world / "annotations.json")
    _, out, _ = call("eval", world / "images", *place, "--json", tmp_path / "e.json")
    assert "APs" in out
    figures = json.loads((tmp_path / "e.json").read_text())
    assert figures["precision"]["AP"] == 1
    assert figures["accuracy"]["all"]["boxes"] == figures["accuracy"]["large"]["boxes"] == 4
    assert figures["accuracy"]["all"]["top1"]["value"] == 1
    assert figures["unmatched"] == {"gnu": 2}
    assert figures["failed"]["E_OUTSIDE"] == 2
    detections = [{"image_id": 1, "category_id": 3, "bbox": [10, 0, SIDE, SIDE], "score": 0.9}]
    detections += [{"image_id": 1, "category_id": 3, "bbox": [270, 200, 60, 60], "score": 0.5}]
    (tmp_path / "d.json").write_text(json.dumps(detections))
    call("eval", world / "images", *place, "--detections", tmp_path / "d.json", "--json", tmp_path / "e.json")
    figures = json.loads((tmp_path / "e.json").read_text())
    assert (figures["boxes"], figures["unknown"], figures["accuracy"]["all"]["boxes"]) == (2, 1, 1)
    # One of four objects is found, with an overlap of 0.94: AP of its category at nine of ten overlaps.
    assert 0 < figures["precision"]["AP"] < 0.5


def test_options_that_do_not_fit_are_refused_before_anything_is_loaded(tmp_path):
    place = ("--memory", tmp_path / "none", "--output")
    for more, reason in (
        ((tmp_path / "r.jsonl", "--coco", tmp_path / "c.json"), "give --boxes"),
        (("-", "--boxes", "auto", "--megadetector", tmp_path / "c.json"), "give a file as --output"),
        ((tmp_path / "r.jsonl", "--boxes", "auto", "--coco", tmp_path), "is a folder"),
    ):
        with pytest.raises(RecognizerError, match=reason):
            call("run", tmp_path, *place, *more)
    for more, reason in (
        (("--detections", tmp_path / "d.json"), "give --boxes"),
        (("--boxes", tmp_path / "a.json", "--per-class", tmp_path / "p.csv"), "for whole images"),
    ):
        with pytest.raises(RecognizerError, match=reason):
            call("eval", tmp_path, "--memory", tmp_path / "none", *more)
