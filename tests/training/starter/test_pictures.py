import hashlib
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.benchmarks.clutter import compose
from tests.benchmarks.gcompris import gcompris
from training.starter.emoji import STYLES, emoji
from training.starter.pictures import (
    TRAINING,
    Picture,
    backgrounds,
    costumes,
    demo_photographs,
    fold,
    in_folds,
    on_white,
    qabcs,
    require_folds,
    stamps,
)
from training.starter.wordnet import WordNet

FETCHED = Path(os.environ.get("TRAINING_PICTURES", "pictures"))
needs_pictures = pytest.mark.skipif(
    not (FETCHED / "scratch").exists(),
    reason="no fetched pictures: run training/starter/fetch_pictures.sh DIR and set TRAINING_PICTURES=DIR",
)


def put(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.new("RGBA", (4, 4), "red")).save(path)


def test_the_fold_of_a_name_is_fixed():
    assert [fold(name) for name in ("tiger", "Sumatran tiger", "red apple", "")] == [3, 4, 1, 1]


def test_only_the_wanted_folds_are_kept_and_required():
    pictures = [Picture(Path("x"), f"n{i}") for i in range(50)]
    kept = in_folds(pictures, TRAINING)
    assert [p for p in pictures if fold(p.name) in (2, 3, 4)] == kept
    require_folds([p.name for p in kept], TRAINING)
    other = next(p.name for p in pictures if fold(p.name) == 0)
    with pytest.raises(ValueError, match=rf"'{other}' is in fold 0; only the folds \[2, 3, 4\]"):
        require_folds([kept[0].name, other], TRAINING)


def test_a_name_held_out_in_other_case_is_left_out():
    pairs = ((f"n{i}", f"N{i}") for i in range(100))
    lower, upper = next(pair for pair in pairs if fold(pair[0]) in TRAINING and fold(pair[1]) == 0)
    pictures = [Picture(Path("x"), lower), Picture(Path("y"), upper)]
    assert in_folds(pictures, TRAINING) == []
    assert in_folds(pictures[:1], TRAINING) == pictures[:1]


def test_stamps_are_named_by_their_sentence(tmp_path):
    base = tmp_path / "tuxpaint-stamps-default/usr/share/tuxpaint/stamps"
    for place, sentence in [
        ("animals/cat", "A Cat.\nde=Katze"),
        ("cartoon/dog", "A dog."),
        ("animals/the", "The  Thea"),
    ]:
        put(base / f"{place}.png")
        (base / f"{place}.txt").write_text(sentence)
    put(base / "animals/nameless.png")
    assert [picture.name for picture in stamps(tmp_path)] == ["Cat", "Thea"]


def test_qabcs_are_named_by_their_file(tmp_path):
    put(tmp_path / "qabcs-data/usr/share/qabcs/abcs/all/pics/food/hot_dog.png")
    assert [picture.name for picture in qabcs(tmp_path)] == ["hot dog"]


def test_costumes_are_named_by_their_file_without_its_variant(tmp_path):
    base = tmp_path / "scratch/usr/share/scratch/Media/Costumes"
    files = [
        "Animals/dog2-b.png",
        "Animals/cat1.gif",
        "Things/flower-vase.gif",
        "Things/partyhat1.png",
        "Fantasy/gobo1.gif",
    ]
    for name in [*files, "People/anna-1.gif", "Letters/stone/a.png"]:
        put(base / name)
    (base / "Animals" / "thumbs.db").touch()
    assert [picture.name for picture in costumes(tmp_path)] == ["cat", "dog", "flower vase", "party hat"]


@pytest.mark.parametrize("lister", [stamps, qabcs, costumes, backgrounds, gcompris, lambda root: emoji(root, "noto")])
def test_pictures_that_are_not_there_say_how_to_fetch_them(tmp_path, lister):
    with pytest.raises(FileNotFoundError, match=r"bash training/starter/fetch_pictures\.sh DIR"):
        lister(tmp_path)


def test_a_cut_out_is_shown_on_white(tmp_path):
    image = Image.new("RGBA", (2, 1))
    image.putpixel((0, 0), (255, 0, 0, 255))
    put(tmp_path / "a.png", image)
    assert list(on_white(Picture(tmp_path / "a.png", "x")).get_flattened_data()) == [(255, 0, 0), (255, 255, 255)]


def test_the_demo_has_photographs_for_grounds(tmp_path):
    grounds = demo_photographs(tmp_path)
    assert {"cat.jpg", "gravel.jpg"} < {path.name for path in grounds}


@needs_pictures
def test_the_fetched_sets_have_their_known_sizes():
    assert (len(stamps(FETCHED)), len({picture.name for picture in stamps(FETCHED)})) == (430, 403)
    assert len(qabcs(FETCHED)) == 328
    assert len(costumes(FETCHED)) > 120
    assert len(gcompris(FETCHED)) == 210
    assert sum(fold(picture.name) == 0 for picture in stamps(FETCHED)) == 78


@needs_pictures
@pytest.mark.parametrize("style", STYLES)
def test_a_style_has_more_than_a_thousand_emoji(style):
    pytest.importorskip("resvg_py", reason="resvg-py renders emoji")
    pictures = emoji(FETCHED, style)
    assert 1050 < len({picture.name for picture in pictures}) == len(pictures) < 1250
    assert Image.open(pictures[0].path).convert("RGBA").getchannel("A").getextrema() == (0, 255)


@needs_pictures
def test_the_clutter_scenes_are_those_of_the_published_figure():
    shown = [picture for picture in stamps(FETCHED) if fold(picture.name) == 0]
    digest = hashlib.sha256()
    for scene in compose(shown, backgrounds(FETCHED), 40, seed=0):
        digest.update(scene.image.tobytes() + repr((scene.names, scene.boxes_xyxy)).encode())
    assert digest.hexdigest() == "7ecc3b97cdbc7478e0242b5b8f1564e5cf2598f7ccc3627d6e63ef6c1ca977bb"


@needs_pictures
@pytest.mark.skipif(not (FETCHED / "wordnet-base").exists(), reason="WordNet is not fetched")
def test_wordnet_knows_most_stamps():
    wordnet = WordNet(FETCHED)
    assert wordnet.meaning("lion").gloss.startswith("large gregarious predatory feline")
    names = {picture.name for picture in stamps(FETCHED)}
    assert sum(wordnet.meaning(name) is not None for name in names) > 0.6 * len(names)
