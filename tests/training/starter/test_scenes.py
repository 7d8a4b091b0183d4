import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.benchmarks.clutter import SceneSettings, compose
from training.data.record import Rejects, make_record
from training.data.shards import Shards, write_shards
from training.data.side_words import swap_sides
from training.starter.composer import Composer, GroundedSettings, mask_box
from training.starter.cut_outs import main_colour
from training.starter.pictures import TRAINING, Picture, fold, in_folds
from training.starter.scene_shards import make_composer, scene_samples
from training.starter.scene_texts import SceneTexts, Seen, place, with_article
from training.starter.wordnet import WordNet

COLOURS = {"red": (230, 10, 10), "green": (10, 200, 10), "blue": (10, 10, 230), "white": (250, 250, 250)}


def names_of(folds, count):
    return [name for name in (f"thing {i}" for i in range(200)) if fold(name) in folds][:count]


def cut_out(path, colour, size_wh=(60, 40), margin=10):
    image = Image.new("RGBA", (size_wh[0] + 2 * margin, size_wh[1] + 2 * margin))
    image.paste((*colour, 255), (margin, margin, margin + size_wh[0], margin + size_wh[1]))
    image.save(path)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """Four one-coloured rectangles with training names, and a black background where the fetched ones would be."""
    root = tmp_path_factory.mktemp("pictures")
    grounds = root / "scratch/usr/share/scratch/Media/Backgrounds"
    grounds.mkdir(parents=True)
    Image.new("RGB", (200, 150)).save(grounds / "black.jpg")
    pictures = []
    for (word, colour), name in zip(COLOURS.items(), names_of(TRAINING, 4), strict=True):
        cut_out(root / f"{word}.png", colour)
        pictures.append(Picture(root / f"{word}.png", name))
    return root, pictures


PLAIN = GroundedSettings(size=160, turn=0, brightness=(1, 1), objects=(1, 4), longest_side=(0.3, 0.9))


def plain_composer(made_up, **more):
    root, pictures = made_up
    return make_composer(root, pictures, seed=0, settings=PLAIN.model_copy(update=more))


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


def test_captions_name_what_can_be_seen_and_nothing_else(made_up):
    composer = plain_composer(made_up)
    for number in range(30):
        _, record = composer(number)
        seen = {region.descriptions[0] for region in record.regions}
        for caption in record.captions:
            assert {picture.name for picture in made_up[1] if picture.name in caption} == seen


def test_places_said_are_places_seen(made_up):
    composer = plain_composer(made_up, objects=(1, 1))
    for number in range(30):
        _, record = composer(number)
        x0, _, x1, _ = record.regions[0].box_xyxy
        assert ("left" in record.captions[2]) == ((x0 + x1) / 2 < 160 / 3)
        assert ("right" in record.captions[2]) == ((x0 + x1) / 2 >= 320 / 3)


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


@pytest.mark.parametrize("bad_fold", [0, 1])
def test_no_name_of_another_fold_enters_training_scenes(made_up, bad_fold):
    root, pictures = made_up
    intruder = Picture(pictures[0].path, names_of([bad_fold], 1)[0])
    shouted = Picture(pictures[0].path, pictures[0].name.upper())
    composer = make_composer(root, [*pictures, intruder], seed=0, settings=PLAIN)
    said = str([composer(number)[1] for number in range(40)])
    assert intruder.name not in said
    with pytest.raises(ValueError, match=f"{intruder.name!r} is in fold {bad_fold}"):
        Composer([*pictures, intruder], [root], SceneTexts(TRAINING), seed=0)
    if fold(shouted.name) not in TRAINING:
        assert pictures[0] not in in_folds([*pictures, shouted], TRAINING)


def test_held_out_names_are_never_said():
    with pytest.raises(ValueError, match="fold 0 is held out"):
        SceneTexts((0, 2))


def test_development_scenes_hold_development_names_alone(made_up):
    root, pictures = made_up
    names = names_of([1], 2)
    more = [Picture(pictures[0].path, name) for name in (*names, *names_of([0], 2))]
    composer = make_composer(root, [*pictures, *more], seed=0, purpose="development", settings=PLAIN)
    found = {region.descriptions[0] for number in range(20) for region in composer(number)[1].regions}
    assert found == set(names)


def test_shards_of_scenes_hold_the_scenes(made_up, tmp_path):
    composer = plain_composer(made_up)
    shards = Shards(write_shards(scene_samples(composer, 5), tmp_path, per_shard=2))
    assert len(shards) == 5
    rejects = Rejects()
    for number in range(5):
        raw = shards.read(number)
        assert make_record(raw.fields, (160, 160), rejects) == composer(number)[1]
    assert not rejects.parts


def test_texts_survive_a_mirror(made_up):
    composer = plain_composer(made_up)
    for number in range(30):
        _, record = composer(number)
        texts = [*record.captions, *(text for region in record.regions for text in region.descriptions)]
        assert all(swap_sides(text) is not None for text in texts)


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


@pytest.mark.parametrize(("word", "colour"), [*COLOURS.items(), ("black", (8, 8, 8)), ("brown", (120, 70, 30))])
def test_colours_have_their_names(word, colour):
    assert main_colour(Image.new("RGBA", (30, 10), (*colour, 255))) == word


def test_no_colour_prevails_in_a_patchwork():
    stripes = [np.full((10, 10, 4), (*COLOURS[word], 255), np.uint8) for word in ("red", "green", "blue")]
    assert main_colour(Image.fromarray(np.hstack(stripes))) is None
    assert main_colour(Image.new("RGBA", (5, 5))) is None


@pytest.mark.parametrize(
    ("box_xyxy", "words"),
    [
        ((0, 0, 30, 30), "at the top left"),
        ((30, 0, 60, 30), "at the top"),
        ((0, 30, 30, 60), "on the left"),
        ((30, 35, 60, 55), "in the centre"),
        ((60, 70, 90, 90), "at the bottom right"),
    ],
)
def test_places_have_their_words(box_xyxy, words):
    assert place(Seen("dog", None, box_xyxy, 90)) == words


def test_articles_fit():
    assert [with_article(text) for text in ("owl", "red owl", "bananas", "bus", "grass", "This is a shell!")] == [
        "an owl", "a red owl", "bananas", "a bus", "a grass", "This is a shell!",
    ]  # fmt: skip


@pytest.fixture
def wordnet(tmp_path):
    """A lion, a king called Rex who comes before the grass of that name, and an idea."""
    folder = tmp_path / "wordnet-base/usr/share/wordnet"
    folder.mkdir(parents=True)
    lines = [
        "  1 licence",
        '{:08d} 05 n 03 lion 0 king_of_beasts 0 Leo_leo 0 001 @ 00000000 n 0000 | large (very) cat; "it roared"',
        "{:08d} 18 n 01 rex 0 001 @i 00000000 n 0000 | a king",
        "{:08d} 20 n 01 rex 0 001 @ 00000000 n 0000 | a grass",
        "{:08d} 09 n 01 idea 0 001 @ 00000000 n 0000 | a thought",
    ]
    data, offsets = "", []
    for text in lines:
        offsets.append(len(data))
        data += text.format(len(data)) + "\n"
    (folder / "data.noun").write_text(data)
    _, lion, king, grass, idea = (f"{offset:08d}" for offset in offsets)
    index = f"  1 licence\nlion n 1 1 @ 1 1 {lion}\nrex n 2 1 @ 2 0 {king} {grass}\nidea n 1 1 @ 1 1 {idea}\n"
    (folder / "index.noun").write_text(index)
    return WordNet(tmp_path)


def test_meanings_are_of_the_first_common_noun_one_can_see(wordnet):
    assert wordnet.meaning("Lion").gloss == "large cat"
    assert wordnet.meaning("lions").synonyms == ("king of beasts", "Leo leo")
    assert wordnet.meaning("old male lion (resting)").synonyms == ()
    assert wordnet.meaning("rex").gloss == "a grass"
    assert wordnet.meaning("idea") is None
    assert wordnet.meaning("This is a sentence of a lion") is None


def test_a_synonym_that_is_a_reserved_name_is_not_said(wordnet):
    allowed = {word for word in ("king of beasts", "Leo leo") if {fold(word), fold(word.lower())} <= set(TRAINING)}
    assert set(SceneTexts(TRAINING, wordnet).meanings("lion")) == {*allowed, "large cat"}
    assert allowed, "the example says nothing"
    everything = SceneTexts(TRAINING, wordnet, reserved=[word.upper() for word in allowed])
    assert everything.meanings("lion") == ("large cat",)


def test_the_scenes_that_figures_are_measured_on_stay_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(5):
        pixels = rng.integers(0, 255, (30 + 9 * number, 50, 4), dtype=np.uint8)
        pixels[:5, :, 3] = 0
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        pictures.append(Picture(tmp_path / f"{number}.png", f"n{number}"))
    Image.fromarray(rng.integers(0, 255, (90, 140, 3), dtype=np.uint8)).save(tmp_path / "ground.png")
    scenes = compose(pictures, [tmp_path / "ground.png"], 6, seed=3, settings=SceneSettings(size=120))
    boxes = json.dumps([(scene.names, scene.boxes_xyxy) for scene in scenes])
    digest = hashlib.sha256(boxes.encode() + b"".join(scene.image.tobytes() for scene in scenes)).hexdigest()
    assert digest == "80f8a4f68c8f20bfa9160579c177b94a7396314bc10f248a5384d6f3d493d05d"
