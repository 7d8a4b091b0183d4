"""Which image a box belongs to, and that nothing outside of the folder of the images is ever touched."""

import os
from dataclasses import replace

import pytest

from recognizer.boxes.given import BoxFile, GivenBox
from recognizer.boxes.plan import plan_boxes
from recognizer.images import list_images


@pytest.fixture
def root(tmp_path, photos):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.jpg", "000000000009.jpg"):
        (tmp_path / "images" / name).write_bytes((photos / "cat.jpg").read_bytes())
    (tmp_path / "secret.jpg").write_bytes((photos / "cat.jpg").read_bytes())
    os.symlink(tmp_path / "secret.jpg", tmp_path / "images" / "link.jpg")
    os.symlink(tmp_path / "images" / "a.jpg", tmp_path / "images" / "inner.jpg")
    (tmp_path / "images" / "loop").symlink_to("loop")
    return tmp_path


def plan(root, names, *, by="path", exclude=(), absolute=False):
    boxes = [GivenBox(image=name, xyxy=(0, 0, 9, 9 + number)) for number, name in enumerate(names)]
    listing = list_images(root / "images", exclude=exclude)
    listing = listing.with_absolute_keys() if absolute else listing
    return plan_boxes(BoxFile(path=root / "boxes.csv", format="CSV", boxes=boxes, by=by), listing)


def outcome(root, name, **how):
    """The path of the file that a box is cut out of, or the code of its problem."""
    (item,) = [item for item in plan(root, [name], **how).items if item.box is not None]
    return item.problem.code if item.problem else os.path.relpath(os.fsdecode(item.path), root / "images")


@pytest.mark.parametrize("absolute", [False, True])
def test_paths_are_those_from_the_images_from_the_file_or_absolute(root, absolute):
    for name in ("sub/b.jpg", "./sub/b.jpg", "sub/../sub/b.jpg", "images/sub/b.jpg", "sub\\b.jpg"):
        assert outcome(root, name, absolute=absolute) == "sub/b.jpg"
    assert outcome(root, str(root / "images" / "sub" / "b.jpg"), absolute=absolute) == "sub/b.jpg"


def test_paths_may_start_from_a_folder_above_the_images(root):
    above = f"{root.name}/images/sub/b.jpg"
    boxes = BoxFile(path=root / "elsewhere" / "boxes.csv", format="CSV", boxes=())
    (root / "elsewhere").mkdir()
    for name in ("images/sub/b.jpg", "images\\sub\\b.jpg", above):
        own = replace(boxes, boxes=[GivenBox(image=name, xyxy=(0, 0, 9, 9))])
        (item,) = [item for item in plan_boxes(own, list_images(root / "images")).items if item.box]
        assert item.key == "sub/b.jpg"
    for name in ("secret.jpg", f"{root.name}/secret.jpg", "images/link.jpg"):
        assert outcome(root, name) in ("E_NOT_FOUND", "E_OUTSIDE")


def test_boxes_none_of_which_has_an_image_are_explained(root):
    (*_, line) = plan(root, ["other/a.jpg", "b.jpg"]).notes
    assert line.startswith(
        "no box has an image: the boxes name images such as 'other/a.jpg', and the folder holds such as"
    )
    assert "no box" not in " ".join(plan(root, ["a.jpg", "b.jpg"]).notes)


def test_nothing_outside_of_the_folder_of_the_images_is_a_picture(root):
    for name in ("../secret.jpg", "sub/../../secret.jpg", str(root / "secret.jpg"), "link.jpg", "/etc/passwd"):
        assert outcome(root, name) == "E_OUTSIDE"
    # One beside the file of boxes is outside of the images too.
    assert outcome(root, "secret.jpg") == "E_NOT_FOUND"
    assert outcome(root, "inner.jpg") == "inner.jpg"
    (link,) = [item for item in plan(root, ["link.jpg"]).items if item.key == "link.jpg"]
    assert link.problem.code == "E_OUTSIDE"  # and no second row that says that the image has no box


@pytest.mark.parametrize(
    "name", ["none.jpg", "sub/none.jpg", "", "a\0.jpg", "\ud800.jpg", "loop", "loop/a.jpg", "é.jpg"]
)
def test_images_that_are_not_there_are_rows(root, name):
    made = plan(root, [name])
    assert [item.problem.code for item in made.items if item.problem] in (["E_NOT_FOUND"], ["E_OUTSIDE"])
    assert "boxes without an image: 1 " in " ".join(made.notes)


def test_a_number_or_a_name_without_suffix_finds_its_image(root):
    assert outcome(root, "9", by="stem") == "000000000009.jpg"
    assert outcome(root, "sub/b", by="stem") == "sub/b.jpg"
    assert outcome(root, "b", by="stem") == "sub/b.jpg"
    assert outcome(root, "link", by="stem") == "E_OUTSIDE"
    assert outcome(root, "c", by="stem") == "E_NOT_FOUND"
    (root / "images" / "b.png").touch()
    assert outcome(root, "b", by="stem") == "E_NOT_FOUND"


def test_rows_come_in_the_order_of_the_images_and_each_image_has_one(root):
    made = plan(root, ["sub/b.jpg", "gone.jpg", "a.jpg", "sub/b.jpg"])
    assert [item.key for item in made.items] == [
        "000000000009.jpg",
        "a.jpg",
        "inner.jpg",
        "link.jpg",
        "sub/b.jpg",
        "sub/b.jpg",
        "gone.jpg",
    ]
    assert [item.box is None for item in made.items] == [True, False, True, True, False, False, False]
    assert made.boxes == 4
    assert len(set(made.keys)) == len(made.keys)
    assert "3 images without a box: status empty" in made.notes


def test_boxes_of_other_images_and_boxes_given_twice_are_counted(root):
    boxes = [GivenBox(image=name, xyxy=(0, 0, 9, 9)) for name in ("a.jpg", "a.jpg", "sub/b.jpg")]
    listing = list_images(root / "images", exclude=["sub"])
    made = plan_boxes(BoxFile(path=root / "boxes.csv", format="CSV", boxes=boxes), listing)
    assert made.boxes == 1
    (line,) = [line for line in made.notes if line.startswith("left out")]
    assert "boxes of images that are not among those of the run 1" in line
    assert "boxes that stand in the file twice 1" in line


def test_thousands_of_boxes_of_one_image_have_rows_of_their_own(root):
    made = plan(root, ["a.jpg"] * 5000)
    assert made.boxes == 5000
    assert len(set(made.keys)) == len(made.items)
