import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from recognizer.encoder.preprocessing import Preprocessing
from training.data.augment import Augmented, AugmentSettings, augment, mentions, mirrored
from training.data.record import Record, Region

RED = np.array([250, 10, 10])


def picture(width, height, box_xyxy):
    pixels = np.full((height, width, 3), 90, dtype=np.uint8)
    x0, y0, x1, y1 = box_xyxy
    pixels[y0:y1, x0:x1] = RED
    return Image.fromarray(pixels)


def fitting(height, width, geometry="letterbox"):
    return Preprocessing((height, width), geometry, (0.5,) * 3, (0.5,) * 3, fill=200)


def run(image, record, options=None, seed=0, caption="nothing", displayed_size_hw=None, into=None):
    size_hw, options = displayed_size_hw or (image.height, image.width), options or AugmentSettings()
    return augment(image, size_hw, record, caption, options, into or fitting(64, 64), np.random.default_rng(seed))


@st.composite
def cases(draw):
    width, height = draw(st.integers(60, 300)), draw(st.integers(60, 300))
    x0, y0 = draw(st.integers(0, width - 30)), draw(st.integers(0, height - 30))
    box = (x0, y0, draw(st.integers(x0 + 25, width)), draw(st.integers(y0 + 25, height)))
    options = AugmentSettings(
        crop_scale=draw(st.sampled_from([(1.0, 1.0), (0.3, 1.0)])),
        flip=draw(st.sampled_from([0.0, 0.5, 1.0])),
    )
    geometry = draw(st.sampled_from(["letterbox", "squash", "crop"]))
    into = fitting(draw(st.integers(90, 130)), draw(st.integers(90, 130)), geometry)
    return width, height, box, options, into, draw(st.integers(0, 1000))


@given(cases())
def test_the_rectangle_still_fills_its_box(case):
    width, height, box, options, into, seed = case
    record = Record(("c",), (Region(box, ("red thing",), 1.0),))
    shown = run(picture(width, height, box), record, options, seed, caption="a red thing", into=into)
    assert shown.pixels.shape == (3, *into.size_hw)
    assert shown.pixels.dtype == np.uint8
    if into.geometry == "crop" and not shown.descriptions:
        return  # the encoder does not see it either
    assert shown.descriptions == (("red thing",),)  # the caption mentions it, so no random crop may lose it
    cx, cy, w, h = shown.boxes_cxcywh[0] * np.tile(into.size_hw[::-1], 2)
    assert min(cx - w / 2, cy - h / 2) >= -1e-3
    assert max(cx + w / 2 - into.size_hw[1], cy + h / 2 - into.size_hw[0]) <= 1e-3
    is_red = np.abs(shown.pixels.transpose(1, 2, 0).astype(int) - RED).max(axis=2) < 60
    y, x = np.mgrid[: into.size_hw[0], : into.size_hw[1]] + 0.5
    beyond = np.maximum(np.abs(x - cx) - w / 2, np.abs(y - cy) - h / 2)
    blur = 1.5 + max(1.0, w / 25, h / 25)  # where the picture is enlarged, so is the blur of its edges
    assert is_red[beyond < -blur].all()
    assert not is_red[beyond > blur].any()


def test_boxes_are_of_the_displayed_picture_when_it_was_decoded_smaller():
    record = Record(("c",), (Region((40, 20, 80, 60), ("d",), 1.0),))
    full = run(picture(200, 100, (40, 20, 80, 60)), record, into=fitting(50, 50))
    half = run(picture(100, 50, (20, 10, 40, 30)), record, displayed_size_hw=(100, 200), into=fitting(50, 50))
    np.testing.assert_array_equal(full.boxes_cxcywh, half.boxes_cxcywh)
    assert np.abs(full.pixels.astype(int) - half.pixels).mean() < 5


@pytest.mark.parametrize("geometry", ["letterbox", "squash", "crop"])
@pytest.mark.parametrize("size_wh", [(301, 77), (64, 200), (128, 128)])
def test_a_whole_picture_gives_the_pixels_and_boxes_of_inference(geometry, size_wh):
    noise = np.random.default_rng(0).integers(0, 255, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    image, into = Image.fromarray(noise), fitting(96, 90, geometry)
    middle = (size_wh[0] // 2 - 20, size_wh[1] // 2 - 10, size_wh[0] // 2 + 20, size_wh[1] // 2 + 10)
    shown = run(image, Record(("c",), (Region(middle, ("d",), 1.0),)), into=into)
    pixels, frame = into.pixels(image)
    np.testing.assert_array_equal(shown.pixels, pixels.numpy())
    cx, cy, w, h = shown.boxes_cxcywh[0] * [90, 96, 90, 96]
    back = frame.to_displayed(np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]))
    np.testing.assert_allclose(back, middle, atol=1e-3)


def test_a_region_that_the_encoder_crops_away_is_left_out_and_one_at_the_edge_is_clipped():
    places = {"lost": (0, 0, 40, 40), "half lost": (80, 0, 120, 40), "a third lost": (88, 0, 124, 40)}
    record = Record(("c",), tuple(Region(box, (f"{name}, on the left",), 1.0) for name, box in places.items()))
    shown = run(picture(300, 100, (0, 0, 40, 40)), record, into=fitting(50, 50, "crop"))
    assert shown.descriptions == (("a third lost, on the left",),)  # a centre crop keeps left and right
    assert shown.boxes_cxcywh[0] == pytest.approx([0.12, 0.2, 0.24, 0.4])


def crop_options(**more):
    return AugmentSettings(crop_scale=(0.2, 0.4), **more)


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
    options = crop_options(visible_share=0.5, crop_ratio=(0.3, 0.4))
    for seed in range(30):
        shown = run(image, record, options, seed, into=fitting(64, 64, "squash"))
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
            shown = run(image, record, AugmentSettings(flip=1.0), caption=caption)
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


def test_what_a_caption_mentions():
    assert mentions("Two lions rest", ["the king of beasts", "a lion"])
    assert not mentions("a photo of the sea", ["a photo of a lion"])
