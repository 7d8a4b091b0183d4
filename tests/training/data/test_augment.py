import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from recognizer.encoder.preprocessing import Preprocessing
from training.data.augment import Augmented, AugmentSettings, augment, mentions, mirrored
from training.data.record import Record, Region
from training.data.side_words import names_place, swap_sides

RED = np.array([250, 10, 10])


def picture(width, height, box_xyxy):
    pixels = np.full((height, width, 3), 90, dtype=np.uint8)
    x0, y0, x1, y1 = box_xyxy
    pixels[y0:y1, x0:x1] = RED
    return Image.fromarray(pixels)


def run(image, record, options, seed=0, caption="nothing", displayed_size_hw=None):
    size_hw = displayed_size_hw or (image.height, image.width)
    return augment(image, size_hw, record, caption, options, np.random.default_rng(seed))


@st.composite
def cases(draw):
    width, height = draw(st.integers(60, 300)), draw(st.integers(60, 300))
    x0, y0 = draw(st.integers(0, width - 30)), draw(st.integers(0, height - 30))
    box = (x0, y0, draw(st.integers(x0 + 25, width)), draw(st.integers(y0 + 25, height)))
    options = AugmentSettings(
        size_hw=(draw(st.integers(90, 130)), draw(st.integers(90, 130))),
        fit=draw(st.sampled_from(["letterbox", "squash"])),
        crop_scale=draw(st.sampled_from([(1.0, 1.0), (0.3, 1.0)])),
        flip=draw(st.sampled_from([0.0, 0.5, 1.0])),
        fill=200,
    )
    return width, height, box, options, draw(st.integers(0, 1000))


@settings(deadline=None)
@given(cases())
def test_the_rectangle_still_fills_its_box(case):
    width, height, box, options, seed = case
    record = Record(("c",), (Region(box, ("red thing",), 1.0),))
    shown = run(picture(width, height, box), record, options, seed, caption="a red thing")
    assert shown.pixels.shape == (3, *options.size_hw)
    assert shown.pixels.dtype == np.uint8
    assert shown.descriptions == (("red thing",),)  # the caption speaks of it, so no crop may lose it
    cx, cy, w, h = shown.boxes_cxcywh[0] * np.tile(options.size_hw[::-1], 2)
    assert min(cx - w / 2, cy - h / 2) >= -1e-3
    is_red = np.abs(shown.pixels.transpose(1, 2, 0).astype(int) - RED).max(axis=2) < 60
    y, x = np.mgrid[: options.size_hw[0], : options.size_hw[1]] + 0.5
    beyond = np.maximum(np.abs(x - cx) - w / 2, np.abs(y - cy) - h / 2)
    blur = 1.5 + max(1.0, w / 25, h / 25)  # where the picture is enlarged, so is the blur of its edges
    assert is_red[beyond < -blur].all()
    assert not is_red[beyond > blur].any()


def test_boxes_are_of_the_displayed_picture_when_it_was_decoded_smaller():
    record = Record(("c",), (Region((40, 20, 80, 60), ("d",), 1.0),))
    full = run(picture(200, 100, (40, 20, 80, 60)), record, AugmentSettings(size_hw=(50, 50)))
    half = run(
        picture(100, 50, (20, 10, 40, 30)), record, AugmentSettings(size_hw=(50, 50)), displayed_size_hw=(100, 200)
    )
    np.testing.assert_array_equal(full.boxes_cxcywh, half.boxes_cxcywh)
    assert np.abs(full.pixels.astype(int) - half.pixels).mean() < 5


@pytest.mark.parametrize("fit", ["letterbox", "squash"])
@pytest.mark.parametrize("size_wh", [(301, 77), (64, 200), (128, 128)])
def test_a_whole_picture_is_laid_out_as_at_inference(fit, size_wh):
    noise = np.random.default_rng(0).integers(0, 255, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    shown = run(image, Record(("c",), ()), AugmentSettings(size_hw=(96, 96), fit=fit))
    inference = Preprocessing((96, 96), fit, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    np.testing.assert_array_equal(shown.pixels, inference.pixels(image)[0].numpy())


def crop_options(**more):
    return AugmentSettings(size_hw=(64, 64), crop_scale=(0.2, 0.4), **more)


def test_a_crop_that_loses_a_captioned_object_is_not_used_with_that_caption():
    corners = (Region((0, 0, 30, 30), ("a dog",), 1.0), Region((170, 170, 200, 200), ("cat",), 1.0))
    image = picture(200, 200, (0, 0, 30, 30))
    counts = {caption: set() for caption in ("two dogs and a cat", "a meadow", "the dog")}
    for seed in range(60):
        for caption, seen in counts.items():
            seen.add(run(image, Record((caption,), corners), crop_options(), seed, caption).descriptions)
    assert counts["two dogs and a cat"] == {(("a dog",), ("cat",))}
    assert all(("a dog",) in said for said in counts["the dog"])
    assert () in counts["a meadow"]


def test_a_region_that_a_crop_loses_is_left_out_with_its_descriptions():
    record = Record(("c",), tuple(Region((x, 0, x + 20, 200), (f"at {x}",), 1.0) for x in range(0, 200, 20)))
    image = picture(200, 200, (0, 0, 20, 200))
    options = crop_options(fit="squash", visible_share=0.5, crop_ratio=(0.3, 0.4))
    for seed in range(30):
        shown = run(image, record, options, seed)
        assert len(shown.boxes_cxcywh) == len(shown.descriptions) < 10
        is_red = np.abs(shown.pixels.transpose(1, 2, 0).astype(int) - RED).max(axis=2) < 60
        first = [box for box, said in zip(shown.boxes_cxcywh, shown.descriptions, strict=True) if said == ("at 0",)]
        share = is_red.any(axis=0).mean()
        assert (first[0][2] if first else 0) == pytest.approx(share if first else 0, abs=0.05)


def test_words_of_place_stay_true():
    region = Region((0, 0, 200, 200), ("dog", "the dog on the left"), 1.0)
    image = picture(200, 200, (0, 0, 30, 30))
    plain = [run(image, Record(("c",), (region,)), crop_options(visible_share=0.01), s, "a cat") for s in range(20)]
    assert any(shown.descriptions == (("dog",),) for shown in plain)
    placed = [
        run(image, Record(("c",), (region,)), crop_options(visible_share=0.01), s, "a cat at the top")
        for s in range(20)
    ]
    assert {shown.descriptions for shown in placed} == {(("dog", "the dog on the left"),)}


def test_a_mirror_image_swaps_its_words_or_is_not_made():
    image = picture(100, 100, (0, 0, 40, 50))
    for text, wanted, x in [
        ("a dog on the Left", "a dog on the Right", 0.8),
        ("a dog left behind", "a dog left behind", 0.2),
        ("a dog", "a dog", 0.8),
    ]:
        for caption, said in ((text, "dog"), ("a dog", text)):
            record = Record((caption,), (Region((0, 0, 40, 50), (said,), 1.0),))
            shown = run(image, record, AugmentSettings(size_hw=(50, 50), flip=1.0), caption=caption)
            assert wanted in (shown.caption, shown.descriptions[0][0])
            assert shown.boxes_cxcywh[0] == pytest.approx([x, 0.25, 0.4, 0.5])


def test_mirroring_twice_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 255, (3, 8, 8), dtype=np.uint8)
    start = Augmented(pixels, "on the left", np.array([[0.25, 0.5, 0.5, 0.25]], np.float32), (("to the right of it",),))
    once = mirrored(start)
    twice = mirrored(once)
    np.testing.assert_array_equal(twice.pixels, pixels)
    np.testing.assert_array_equal(twice.boxes_cxcywh, start.boxes_cxcywh)
    assert (twice.caption, twice.descriptions) == (start.caption, start.descriptions)
    assert not np.array_equal(once.pixels, pixels)


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("a dog on the left, a cat on the right", "a dog on the right, a cat on the left"),
        ("Leftmost LEFT-HAND corner", "Rightmost RIGHT-HAND corner"),
        ("bright and upright, with leftovers", "bright and upright, with leftovers"),
        ("top left corner", "top right corner"),
        ("its left wing", "its right wing"),
        ("left behind", None),
        ("she left the room", None),
        ("the right way to a right angle", None),
        ("human rights on the left", None),
        ("a left-handed guitar", None),
        ("running clockwise", None),
        ("right of way", None),
        ("", ""),
    ],
)
def test_left_and_right_are_swapped_where_that_is_safe(text, swapped):
    assert swap_sides(text) == swapped


SIDES = ["left", "Right", "LEFTMOST", "right-hand", "rightward", "leftmoſt", "left."]
WORDS = st.sampled_from([*SIDES, "the", "on", "side", "of", "top", "corner", "wing", "dog,", "at", "İ"])


@given(st.lists(WORDS, max_size=8).map(" ".join))
def test_swapping_twice_gives_the_text_back(text):
    swapped = swap_sides(text)
    assert swapped is None or swap_sides(swapped) == text


def test_what_names_a_place():
    assert names_place("the cat in the Centre")
    assert names_place("cat, top left")
    assert not names_place("a bright laptop")


def test_what_a_caption_mentions():
    assert mentions("Two lions rest", ["the king of beasts", "a lion"])
    assert not mentions("a photo of the sea", ["a photo of a lion"])
