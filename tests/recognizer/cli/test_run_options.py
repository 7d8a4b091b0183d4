"""Options of `run` that choose what competes, what is labelled, and what is drawn."""

import json
import shutil

import pytest
from PIL import Image

from memory import read_labels
from recognizer.errors import RecognizerError
from recognizer.results import ResumeRefused
from recognizer.selection import SelectionError
from recognizer.settings import SettingsError
from tests.recognizer.commands import call

LABELS = (
    "name,group,description\ntabby cat,animals,striped fur\nred fox,animals,\ncup of coffee,drinks,a saucer\nrocket,,\n"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory, photos):
    root = tmp_path_factory.mktemp("options")
    (root / "labels.csv").write_text(LABELS)
    call("build", root / "labels.csv", "--memory", root / "memory", "--precision", "fp32")
    for name in ("cat", "coffee", "bricks"):
        (root / "images" / name[0]).mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / f"{name}.jpg", root / "images" / name[0] / f"{name}.jpg")
    (root / "images" / "broken.jpg").write_bytes(b"")
    return root


def run(world, output, *more):
    """Run over the images of the world; returns stderr and the rows by file name."""
    place = ("--memory", world / "memory", "--output", output, "--precision", "fp32")
    code, _, err = call("run", world / "images", *place, *more)
    assert code == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()] if output.suffix == ".jsonl" else []
    return err, {row["path"].rpartition("/")[2]: row for row in rows}


def test_rows_have_the_displayed_size_and_the_sums_of_groups(world, tmp_path):
    _, rows = run(world, tmp_path / "r.jsonl")
    with Image.open(world / "images" / "c" / "cat.jpg") as cat:
        assert (rows["cat.jpg"]["width"], rows["cat.jpg"]["height"]) == cat.size
    confidence = {each["category"]: each["confidence"] for each in rows["cat.jpg"]["candidates"]}
    sums = rows["cat.jpg"]["group_confidence"]
    assert list(sums) == ["animals", "drinks"]
    assert sums["animals"] == pytest.approx(confidence["tabby cat"] + confidence["red fox"], rel=1e-4)
    assert "width" not in rows["broken.jpg"]


def test_weak_images_get_no_label(world, tmp_path):
    _, all_rows = run(world, tmp_path / "all.jsonl")
    bound = (all_rows["bricks.jpg"]["confidence"] + all_rows["cat.jpg"]["confidence"]) / 2
    _, rows = run(world, tmp_path / "r.jsonl", "--min-confidence", bound)
    assert (rows["cat.jpg"]["status"], rows["cat.jpg"]["label"]) == ("ok", "tabby cat")
    weak = rows["bricks.jpg"]
    assert (weak["status"], weak["label"], weak["confidence"]) == ("below", None, all_rows["bricks.jpg"]["confidence"])
    assert weak["candidates"] == all_rows["bricks.jpg"]["candidates"]
    err, _ = run(world, tmp_path / "r.jsonl", "--min-confidence", bound)
    assert "4 of 4 images are already done" in err
    with pytest.raises(ResumeRefused, match=r"score\.min_confidence: was .*, is None"):
        run(world, tmp_path / "r.jsonl")


def test_labels_are_rolled_up_to_the_lowest_group_that_is_sure_enough(world, tmp_path):
    labels = LABELS.replace(",animals,", ",things > animals,").replace(",drinks,", ",things,")
    (tmp_path / "labels.csv").write_text(labels)
    call("build", tmp_path / "labels.csv", "--memory", tmp_path / "memory", "--precision", "fp32")
    place = (world / "images", "--memory", tmp_path / "memory", "--precision", "fp32")
    output = tmp_path / "r.jsonl"

    def rows(*more):
        code, _, err = call("run", *place, "--output", output, "--overwrite", *more)
        assert code == 0, err
        return {row["path"].rpartition("/")[2]: row for row in map(json.loads, output.read_text().splitlines())}

    plain = rows()["cat.jpg"]
    sums = plain["group_confidence"]
    assert {"things", "things > animals"} <= sums.keys()
    assert "source" not in plain
    cat = plain["confidence"]
    between = (cat + sums["things > animals"]) / 2
    for threshold, expected in (
        (cat * 0.99, ("tabby cat", 3, "things > animals > tabby cat", "category", cat)),
        (between, ("animals", 2, "things > animals", "rolled up", sums["things > animals"])),
    ):
        row = rows("--roll-up", threshold)["cat.jpg"]
        found = tuple(row[name] for name in ("label", "label_level", "label_path", "source", "confidence"))
        assert found == expected
        assert row["candidates"] == plain["candidates"]
    nothing = rows("--roll-up", 1)["cat.jpg"]
    assert (nothing["status"], nothing["label"]) == ("below", None)


def test_wordnet_gives_groups_where_the_label_file_has_none(world, tmp_path):
    (tmp_path / "labels.csv").write_text("name,group\nowl,\nhen,\ndog,\nbat,sports\n")
    memory = tmp_path / "memory"
    _, _, err = call(
        "build", tmp_path / "labels.csv", "--memory", memory, "--hierarchy", "wordnet", "--precision", "fp32"
    )
    assert "WordNet: hypernyms of 3 of 4 categories; 1 keep the group of the label file" in err
    exported = call("export", "--memory", memory)[1]
    groups = {row["name"]: row["group"] for row in map(json.loads, exported.splitlines())}
    assert groups["bat"] == "sports"
    assert groups["owl"] == groups["hen"] == f"{groups['dog']} > bird"
    (tmp_path / "again.jsonl").write_text(exported)
    assert {each.name: each.group for each in read_labels(tmp_path / "again.jsonl")} == groups


def test_a_confidence_or_precision_that_is_none_is_said_in_one_sentence(world, tmp_path):
    with pytest.raises(SettingsError, match=r"`score.roll_up` = 1.5: give a confidence from 0 to 1, auto or null"):
        run(world, tmp_path / "r.jsonl", "--roll-up", "1.5")
    with pytest.raises(RecognizerError, match=r"--precision abc is neither a number such as 0.98, .* nor auto, fp32"):
        call("run", world / "images", "--memory", world / "memory", "--output", "-", "--precision", "abc")


def test_what_needs_a_calibration_is_refused_before_anything_is_loaded(world, tmp_path):
    with pytest.raises(RecognizerError, match="needs the thresholds that `recognizer calibrate` fits"):
        run(world, tmp_path / "r.jsonl", "--roll-up", "auto")
    with pytest.raises(RecognizerError, match="needs the curve that `recognizer calibrate` fits"):
        run(world, tmp_path / "r.jsonl", "--set", "score.precision=0.98")
    curve = "score.precision_curve=[[0.0, 0.5, 60], [0.2, 0.9, 40]]"
    with pytest.raises(RecognizerError, match=r"best reachable precision is 0\.9, with 40 images"):
        run(world, tmp_path / "r.jsonl", "--set", curve, "--set", "score.precision=0.98")
    with pytest.raises(RecognizerError, match="needs the curve"):
        run(world, tmp_path / "r.jsonl", "--set", curve, "--set", "score.precision=0.9", "--only", "rocket")
    assert not (tmp_path / "r.jsonl").exists()
    _, rows = run(world, tmp_path / "r.jsonl", "--set", curve, "--precision", "0.9")
    labelled = [row for row in rows.values() if row["status"] == "ok"]
    assert labelled
    assert all(row["confidence"] >= 0.2 for row in labelled)
    assert {row["status"] for row in rows.values() if row.get("confidence", 1) < 0.2} <= {"below"}


def test_a_threshold_without_effect_is_an_error(world, tmp_path):
    with pytest.raises(SettingsError, match="has no effect"):
        run(world, tmp_path / "r.jsonl", "--set", "score.unknown_threshold=0.5")


def test_chosen_categories_compete_alone_and_are_part_of_the_run(world, tmp_path):
    (tmp_path / "chosen.txt").write_text("red fox\ncup of coffee\n")
    _, rows = run(world, tmp_path / "r.jsonl", "--only", tmp_path / "chosen.txt")
    assert {each["category"] for each in rows["cat.jpg"]["candidates"]} == {"red fox", "cup of coffee"}
    assert sum(each["confidence"] for each in rows["cat.jpg"]["candidates"]) == pytest.approx(1, abs=1e-5)
    err, _ = run(world, tmp_path / "r.jsonl", "--without", "tabby cat", "--without", "rocket")
    assert "4 of 4 images are already done" in err
    for other in ([], ["--only", "red fox", "--only", "rocket"]):
        with pytest.raises(ResumeRefused, match="categories: was '2 chosen, sha256"):
            run(world, tmp_path / "r.jsonl", *other)
    with pytest.raises(SelectionError, match="did you mean 'tabby cat'"):
        run(world, tmp_path / "other.jsonl", "--only", "tabby cats")


def test_a_prior_counts_and_is_part_of_the_run(world, tmp_path):
    _, plain = run(world, tmp_path / "plain.jsonl")
    prior = tmp_path / "prior.csv"
    prior.write_text("name,prior\ntabby cat,0\nred fox,6\nrocket,2\nrokcet,5\n")
    err, rows = run(world, tmp_path / "r.jsonl", "--prior", prior)
    assert "prior.csv: left out: not in the memory: 'rokcet' (did you mean 'rocket'?)" in err
    weights = {"tabby cat": 0, "red fox": 1.5, "rocket": 0.5}
    for path in ("cat.jpg", "coffee.jpg", "bricks.jpg"):
        row = rows[path]
        expected = {
            each["category"]: each["confidence"] * weights.get(each["category"], 1)
            for each in plain[path]["candidates"]
        }
        total = sum(expected.values())
        assert {each["category"]: each["confidence"] for each in row["candidates"]} == pytest.approx(
            {name: value / total for name, value in expected.items() if value}, rel=1e-3, abs=1e-5
        )
        for each in row["candidates"]:
            contributions = sum(piece["contribution"] for piece in each["evidence"])
            assert contributions == pytest.approx(each["score"], abs=1e-5)
    err, _ = run(world, tmp_path / "r.jsonl", "--prior", prior)
    assert "4 of 4 images are already done" in err
    prior.write_text("name,prior\ntabby cat,0\nred fox,6\nrocket,3\n")
    with pytest.raises(ResumeRefused, match="prior: was 'sha256"):
        run(world, tmp_path / "r.jsonl", "--prior", prior)
    with pytest.raises(RecognizerError, match="the prior of every category that competes is 0"):
        run(world, tmp_path / "other.jsonl", "--prior", prior, "--only", "tabby cat")


def test_one_category_alone_is_warned_of(world, tmp_path):
    err, rows = run(world, tmp_path / "r.jsonl", "--only", "red fox")
    assert "only one category competes, so every image gets it with confidence 1.0" in err
    assert rows["bricks.jpg"]["confidence"] == 1
    assert "only one category" not in run(world, tmp_path / "more.jsonl")[0]


def test_several_labels_come_with_their_regions(world, tmp_path):
    _, rows = run(world, tmp_path / "r.jsonl", "--all-above", "0.5")
    best = rows["cat.jpg"]["labels"][0]
    assert (best["category"], best["group"]) == ("tabby cat", "animals")
    assert 0.5 <= best["presence"] <= 1
    assert 0 <= best["box_xyxy"][0] < best["box_xyxy"][2] <= rows["cat.jpg"]["width"]
    with pytest.raises(SettingsError, match=r"run\.all_above"):
        run(world, tmp_path / "other.jsonl", "--all-above", "0")


def test_absolute_paths_are_those_of_the_files(world, tmp_path):
    _, rows = run(world, tmp_path / "r.jsonl", "--absolute-paths", "--pictures", tmp_path / "out")
    assert rows["cat.jpg"]["path"] == str(world / "images" / "c" / "cat.jpg")
    (cat,) = (tmp_path / "out").rglob("cat.jpg.evidence.jpg")
    assert cat == tmp_path / "out" / (world / "images" / "c" / "cat.jpg").relative_to("/").parent / cat.name


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_run_draws_its_pictures_and_draws_the_missing_ones_when_repeated(world, tmp_path, suffix):
    command = (world, tmp_path / f"r.{suffix}", "--pictures", tmp_path / "out")
    err, _ = run(*command)
    assert f"pictures in {tmp_path / 'out'}" in err
    pictures = sorted((tmp_path / "out").rglob("*.jpg"))
    assert [str(picture.relative_to(tmp_path / "out")) for picture in pictures] == [
        "b/bricks.jpg.evidence.jpg",
        "c/cat.jpg.evidence.jpg",
        "c/coffee.jpg.evidence.jpg",
    ]
    kept, lost, _ = pictures
    before = kept.stat()
    lost.unlink()
    run(*command)
    assert lost.exists()
    assert kept.stat().st_mtime_ns == before.st_mtime_ns


def test_a_table_gets_its_pictures_with_its_run_or_later(world, tmp_path):
    (tmp_path / "good").mkdir()
    shutil.copy(world / "images" / "c" / "cat.jpg", tmp_path / "good")
    command = ("run", tmp_path / "good", "--memory", world / "memory", "--output", tmp_path / "r.csv")
    call(*command)
    assert call(*command, "--pictures", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "cat.jpg.evidence.jpg").exists()


def test_the_picture_of_an_image_that_was_replaced_is_drawn_again(world, photos, tmp_path):
    shutil.copytree(world / "images", tmp_path / "images")
    command = ("run", tmp_path / "images", "--memory", world / "memory", "--precision", "fp32", "--output")
    call(*command, tmp_path / "r.jsonl", "--pictures", tmp_path / "out")
    shutil.copy(photos / "rocket.jpg", tmp_path / "images" / "c" / "cat.jpg")
    call(*command, tmp_path / "r.jsonl", "--pictures", tmp_path / "out")
    call(*command, tmp_path / "fresh.jsonl", "--pictures", tmp_path / "fresh")
    for picture in (tmp_path / "fresh").rglob("*.jpg"):
        assert (tmp_path / "out" / picture.relative_to(tmp_path / "fresh")).read_bytes() == picture.read_bytes()


def test_places_where_pictures_cannot_be_are_refused_before_anything_is_loaded(world, tmp_path):
    (tmp_path / "file").touch()
    for output, folder, reason in (
        ("-", tmp_path / "out", "give a file as --output"),
        (tmp_path / "r.jsonl", tmp_path / "file", "is a file"),
        (tmp_path / "r.jsonl", world / "images" / "out", "choose a folder outside"),
    ):
        with pytest.raises(RecognizerError, match=reason):
            call("run", world / "images", "--memory", tmp_path / "none", "--output", output, "--pictures", folder)
