import json

import pytest

from recognizer.benchmark.data_sets import DATA_SETS
from recognizer.benchmark.few_shot import few_shot
from recognizer.errors import RecognizerError
from recognizer.reranking.open import open_reranker
from recognizer.settings import load_settings
from tests.recognizer.benchmark.miniatures import coop, picture
from tests.recognizer.benchmark.seeing import SeeingBench, pictures
from tests.rerank.scripted import preferring

# What an image looks like says nothing of its name but "gull" alone, so zero-shot is at chance for the others.
SHOWN = {"owl": "screw", "gull": "gull", "tern": "cloud"}


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    pictures(folder / "train", {label: [seen] * (2 if label == "tern" else 5) for label, seen in SHOWN.items()})
    pictures(folder / "test", {label: [seen] * 4 for label, seen in SHOWN.items()})
    return folder


def figures(table):
    return {row.what: row.values for row in table.rows}


def test_heads_learn_from_shots_what_the_names_do_not_say(divided):
    table = few_shot(SeeingBench(), divided, shots=(2, 4, 8), seeds=2)
    found = figures(table)
    (zero_shot,) = found["zero-shot"]
    assert zero_shot < 0.7
    assert found["2 shots, 1-NN (RAR's CLIP+KNN)"] == [1, 1]
    for head in ("auto", "ProKeR", "Tip-Adapter"):
        assert min(found[f"4 shots, {head}"]) > zero_shot
    assert found["4 shots, oracle: true name among the 5 best of auto"] == [1, 1]
    assert {row.n for row in table.rows} == {12}
    assert found["8 shots"] == ()  # measured nothing new
    assert [row.note for row in table.rows if not row.values] == ["no class has more than 5 images for shots"]
    assert f"{divided.name}, 4 shots: classes with fewer images, and how many: tern 2" in table.notes
    assert json.loads(json.dumps(table.to_json()))["options"]["short"][divided.name]["8"] == {
        "owl": 5,
        "gull": 5,
        "tern": 2,
    }


def test_in_file_order_there_is_one_draw_and_it_is_the_first_images(divided):
    first = few_shot(SeeingBench(), divided, shots=(1,), in_file_order=True)
    assert all(len(row.values) == 1 for row in first.rows)
    assert first.options["drawn"] == "in the order of the files"


def test_without_a_test_set_half_of_each_class_tests(tmp_path):
    pictures(tmp_path / "birds", {"owl": ["screw"] * 4, "gull": ["gull"] * 3, "tern": ["cloud"]})
    table = few_shot(SeeingBench(), tmp_path / "birds", shots=(1, 2), seeds=2)
    assert {row.n for row in table.rows} == {2 + 2 + 1}
    assert any("1 shot: classes with fewer images, and how many: tern 0" in line for line in table.notes)
    pictures(tmp_path / "single", {"owl": ["owl"], "gull": ["gull"]})
    with pytest.raises(RecognizerError, match="single has no image for shots"):
        few_shot(SeeingBench(), tmp_path / "single")


def test_an_mllm_orders_the_names_that_the_head_finds(divided):
    settings = load_settings(overrides=["rerank.when=always", "rerank.model=none", "rerank.cache=off"])
    reranker = open_reranker(settings.rerank, mllm=preferring(["owl"]))
    found = figures(few_shot(SeeingBench(settings), divided, shots=(1,), seeds=1, reranker=reranker))
    assert reranker.counts.asked == 12
    assert "1 shot, auto + rerank" in found


def test_several_data_sets_are_averaged_seed_by_seed(tmp_path):
    for name in ("DTD", "OxfordPets"):
        coop(tmp_path, *DATA_SETS[name].coop, ["first", "second"])
    with pytest.raises(RecognizerError, match="DTD has no test image that is not the file of a shot"):
        few_shot(SeeingBench(), tmp_path, shots=(1,))
    for path in tmp_path.rglob("test.jpg"):
        picture(path, 0, shade=len(str(path)))
    table = few_shot(SeeingBench(), tmp_path, shots=(1,), seeds=2)
    rows = {(row.data, row.what): row for row in table.rows}
    of_sets = [rows[data, "1 shot, auto"].values for data in ("DTD", "OxfordPets")]
    mean = rows["average of 2", "1 shot, auto"]
    assert mean.values == pytest.approx([sum(pair) / 2 for pair in zip(*of_sets, strict=True)])
    assert mean.n == sum(rows[data, "zero-shot"].n for data in ("DTD", "OxfordPets"))


def test_a_file_that_is_a_shot_does_not_test(tmp_path):
    pictures(tmp_path / "set" / "train", {"owl": ["screw"], "gull": ["gull"]})
    pictures(tmp_path / "set" / "test", {"owl": ["screw"], "gull": ["gull"] * 2})
    copied = next((tmp_path / "set" / "train" / "owl").iterdir())
    (tmp_path / "set" / "test" / "owl" / "screw7.png").write_bytes(copied.read_bytes())
    table = few_shot(SeeingBench(), tmp_path / "set", shots=(1,), seeds=1)
    assert {row.n for row in table.rows} == {3}
