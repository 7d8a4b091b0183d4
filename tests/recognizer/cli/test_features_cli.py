"""`embed`, `find`, `near-duplicates`, and `--features` of the other commands."""

import shutil

import pytest
from PIL import Image

from recognizer.demo import DATA
from recognizer.errors import RecognizerError
from tests.recognizer.commands import call

PLACE = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Photographs of the demo with a copy and a smaller copy, embedded, and a memory of the demo's labels."""
    root = tmp_path_factory.mktemp("features")
    photos = root / "photos"
    for name in ("cat", "coffee", "rocket", "clock"):
        (photos / name).mkdir(parents=True)
        shutil.copy(DATA / "photos" / f"{name}.jpg", photos / name / f"{name}.jpg")
    shutil.copy(photos / "coffee" / "coffee.jpg", photos / "coffee" / "again.jpg")
    with Image.open(photos / "cat" / "cat.jpg") as cat:
        cat.resize((cat.width * 3 // 4, cat.height * 3 // 4)).save(photos / "cat" / "small.png")
    (root / "labels.txt").write_text("cat\ncoffee\nrocket\nclock\n")
    call("build", root / "labels.txt", "--memory", root / "memory", *PLACE)
    return root


@pytest.fixture(scope="module")
def features(world):
    code, _, err = call("embed", world / "photos", "--features", world / "features", "--model", "starter", *PLACE)
    assert code == 0
    assert "6 images: 6 encoded, 0 stored before, 0 failed" in err
    return world / "features"


def test_embed_again_encodes_nothing(world, features):
    _, _, err = call("embed", world / "photos", "--features", features, "--memory", world / "memory", *PLACE)
    assert "6 images: 0 encoded, 6 stored before, 0 failed" in err


def test_embed_refuses_two_encoders_and_says_what_failed(world, tmp_path):
    with pytest.raises(RecognizerError, match="names the encoder already"):
        call("embed", world / "photos", "--features", tmp_path, "--memory", world / "memory", "--model", "starter")
    (tmp_path / "text.jpg").write_text("no image")
    code, _, err = call("embed", tmp_path / "text.jpg", "--features", tmp_path / "f", "--model", "starter", *PLACE)
    assert (code, "1 failed (1 E_NOT_IMAGE)" in err) == (0, True)


def test_run_gives_the_same_file_with_stored_features(world, features, tmp_path):
    outputs = [tmp_path / name for name in ("fresh.jsonl", "stored.jsonl", "set.jsonl")]
    for output, options in zip(
        outputs, ([], ["--features", features], ["--set", f"run.features={features}"]), strict=True
    ):
        code, _, _ = call("run", world / "photos", "--memory", world / "memory", "--output", output, *options, *PLACE)
        assert code == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes() == outputs[2].read_bytes()


def test_regions_that_are_not_stored_are_not_missed(world, features, tmp_path):
    lower = ("--set", "score.region_threshold=0.01")
    outputs = [tmp_path / "fresh.jsonl", tmp_path / "stored.jsonl"]
    place = ("--memory", world / "memory", *lower, *PLACE)
    call("run", world / "photos" / "cat", *place, "--output", outputs[0])
    _, _, err = call("run", world / "photos" / "cat", *place, "--output", outputs[1], "--features", features)
    assert "stored features are not used: they lack regions of weight below 0.05" in err
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_eval_and_calibrate_and_exemplars_use_them(world, features, tmp_path):
    shown = [
        call("eval", world / "photos", "--memory", world / "memory", *options, *PLACE)[1]
        for options in ([], ["--features", features])
    ]
    assert shown[0] == shown[1]
    digests = []
    for name, options in (("fresh", []), ("stored", ["--features", features])):
        memory = tmp_path / name
        call("build", world / "labels.txt", "--memory", memory, "--exemplars", world / "photos", *options, *PLACE)
        digests.append(call("export", "--memory", memory, "--vectors")[1])
    assert digests[0] == digests[1]
    # Nothing was added, so all of them were found.
    _, _, err = call("embed", world / "photos", "--features", features, "--model", "starter", *PLACE)
    assert "0 encoded, 6 stored before" in err


def test_find_lists_the_nearest_images_whole_and_by_region(features):
    for text, name in (("coffee", "coffee"), ("rocket", "rocket"), ("clock", "clock")):
        _, out, _ = call("find", text, "--features", features, "--top", 1, *PLACE)
        whole, regions = out.split("\n\n")
        assert f"{name}.jpg" in whole.splitlines()[2] or "again.jpg" in whole.splitlines()[2]
        assert name in regions.splitlines()[2]
        assert len(whole.splitlines()) == len(regions.splitlines()) == 3


def test_find_like_an_image_leaves_out_the_image_itself(world, features):
    _, out, _ = call("find", "--like", world / "photos" / "cat" / "cat.jpg", "--features", features, *PLACE)
    lines = out.splitlines()
    assert lines[2].endswith("small.png")
    assert "cat.jpg" not in out


def test_near_duplicates_are_grouped(world, features):
    _, out, err = call("near-duplicates", "--features", features)
    groups = {}
    for line in out.splitlines()[2:]:
        number, _, path = line.split()
        groups.setdefault(number, set()).add(path.rpartition("/")[2])
    assert sorted(groups.values(), key=sorted) == [{"again.jpg", "coffee.jpg"}, {"cat.jpg", "small.png"}]
    assert "2 groups of copies, 4 images" in err
    _, out, _ = call("near-duplicates", "--features", features, "--above", "0.9999")
    assert "small.png" not in out


def test_files_that_changed_or_went_are_not_listed(world, tmp_path):
    photos, stored = tmp_path / "photos", tmp_path / "features"
    shutil.copytree(world / "photos", photos)
    call("embed", photos, "--features", stored, "--model", "starter", *PLACE)
    (photos / "coffee" / "coffee.jpg").write_bytes(b"another content")
    shutil.rmtree(photos / "cat")
    _, out, _ = call("find", "coffee", "--features", stored, *PLACE)
    assert "again.jpg" in out
    assert "coffee.jpg" not in out
    assert "cat" not in out


def test_find_says_what_is_missing(features, tmp_path):
    with pytest.raises(RecognizerError, match="holds no stored features"):
        call("find", "cat", "--features", tmp_path / "none")
    with pytest.raises(RecognizerError, match="one of the two"):
        call("find", "--features", features)
    for text in ("", " \n"):
        with pytest.raises(RecognizerError, match="the text is empty; say what the images show"):
            call("find", text, "--features", features)
    with pytest.raises(RecognizerError, match="name one with --model"):
        call("near-duplicates", "--features", features, "--model", "another")


def test_features_are_not_stored_among_other_files(world):
    before = sorted(path.name for path in (world / "photos").iterdir())
    with pytest.raises(RecognizerError, match=r"photos holds other files \(.*\) and no stored features; give a new"):
        call("embed", world / "photos", "--features", world / "photos", "--model", "starter", *PLACE)
    assert sorted(path.name for path in (world / "photos").iterdir()) == before


def test_the_users_folder_is_in_the_cache(world, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    call("embed", world / "photos" / "cat", "--features", "user", "--model", "starter", *PLACE)
    assert (tmp_path / "recognizer" / "features" / "files.sqlite").exists()
