import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.training.starter.made_up import COLOURS, plain_composer
from training.starter.composer import mask_box


def test_boxes_are_exactly_what_is_left_visible(made_up):
    names = dict(zip((picture.name for picture in made_up[1]), COLOURS.values(), strict=True))
    composer, hidden = plain_composer(made_up), 0
    for number in range(60):
        image, record = composer(number)
        pixels = np.asarray(image).astype(int)
        described = {region.descriptions[0]: region.box_xyxy for region in record.regions}
        for name, colour in names.items():
            own = np.abs(pixels - colour).max(axis=2) < 30
            if name in described:
                box = mask_box(own, (0, 0))
                assert box is not None
                assert np.abs(np.subtract(box, described[name])).max() <= 2  # soft edges
            else:
                hidden += int(own.sum() > 20)
    assert hidden > 0  # something was placed, mostly covered, and not described


def test_a_scene_depends_on_its_number_alone(made_up):
    forwards, backwards = plain_composer(made_up), plain_composer(made_up)
    scenes = {number: forwards(number) for number in (0, 1, 2)}
    for number in (2, 1, 0):
        image, record = backwards(number)
        assert record == scenes[number][1]
        assert image.tobytes() == scenes[number][0].tobytes()


def test_plain_scenes_show_one_large_object_on_a_light_ground(made_up):
    composer = plain_composer(made_up, plain=1.0)
    whites = 0
    for number in range(30):
        image, record = composer(number)
        (region,) = record.regions
        x0, y0, x1, y1 = region.box_xyxy
        assert max(x1 - x0, y1 - y0) > 0.4 * 160
        corners = {image.getpixel(at) for at in ((0, 0), (159, 0), (0, 159), (159, 159))}
        ground = max(corners, key=sum)
        assert min(ground) >= 160
        whites += ground == (255, 255, 255)
    assert 5 < whites < 25


def test_a_share_of_the_scenes_is_plain(made_up):
    composer = plain_composer(made_up, plain=0.5, objects=(3, 3), visible_share=0.01, longest_side=(0.1, 0.15))
    counts = [len(composer(number)[1].regions) for number in range(40)]
    assert 10 < counts.count(1) < 30
    assert set(counts) == {1, 3}


def test_every_number_of_objects_is_composed(made_up):
    composer = plain_composer(made_up, visible_share=0.01, longest_side=(0.1, 0.15), objects=(1, 3))
    assert {len(composer(number)[1].regions) for number in range(40)} == {1, 2, 3}


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=6))
def test_a_mask_box_is_the_smallest(rows):
    mask = np.array(rows)
    box = mask_box(mask, (10, 20))
    places = [(x + 10, y + 20) for y, row in enumerate(rows) for x, value in enumerate(row) if value]
    if not places:
        assert box is None
        return
    xs, ys = zip(*places, strict=True)
    assert box == (min(xs), min(ys), max(xs) + 1, max(ys) + 1)
