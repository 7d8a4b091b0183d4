import pytest

from recognizer.benchmark.fine_grained import fine_grained
from recognizer.errors import RecognizerError
from recognizer.reranking.open import open_writer
from recognizer.settings import load_settings
from tests.recognizer.benchmark.seeing import SeeingBench, pictures
from tests.rerank.scripted import ScriptedMllm

SHOWN = {"tawny owl": ["barn owl"] * 4, "herring gull": ["penguin"] * 3 + ["wren+wren+penguin"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("birds")
    pictures(folder / "train", {label: shown[:3] for label, shown in SHOWN.items()})
    pictures(folder / "test", SHOWN)
    return folder


def figures(table):
    return {(row.what, row.metric): row.values for row in table.rows}


def test_a_wrong_name_for_a_whole_class_groups_its_images_right(folder):
    table = fine_grained(SeeingBench(), folder, root="bird", unlabelled=2, seeds=2)
    found = figures(table)
    ways = list(dict.fromkeys(what for what, _ in found))
    few = "kinds of bird, 2 unlabelled images per class"
    assert ways == ["another name for every image", "names given", "kinds of bird", few, f"{few} as exemplars"]
    assert found["another name for every image", "cACC"] == [2 / 8, 2 / 8]
    # no unlabelled image shows a wren, so the image that does is called a penguin
    assert found["kinds of bird", "cACC"] == (7 / 8, 7 / 8)
    assert found[few, "cACC"] == found[f"{few} as exemplars", "cACC"] == (1, 1)
    assert len(found["kinds of bird", "sACC"]) == 2
    assert all(row.n == 8 for row in table.rows)
    assert {row.note for row in table.rows if row.what == "kinds of bird"} == {"846 nouns"}
    assert "all-MiniLM-L6-v2" in table.notes[0]
    # barn owl for tawny owl is near in meaning, so sACC is far above that of names drawn at random
    assert found["kinds of bird", "sACC"][0] > 0.4


def test_given_names_may_come_from_a_label_file(folder, tmp_path):
    labels = tmp_path / "names.txt"
    labels.write_text("barn owl\npenguin\nwren\n")
    found = figures(fine_grained(SeeingBench(), folder, labels=labels, root="bird", seeds=1))
    assert found["names given", "cACC"][0] >= 7 / 8


def test_an_mllm_names_the_unlabelled_images(folder):
    settings = load_settings(overrides=["rerank.model=none", "rerank.cache=off"])
    answers = iter(["penguin", "I am sorry, but " * 9, "Penguin", '"barn owl".', "barn owl", "barn owl"])
    mllm = ScriptedMllm(write_one=lambda request: next(answers))
    writer = open_writer(settings.rerank, mllm=mllm)
    table = fine_grained(SeeingBench(), folder, root="bird", unlabelled=3, seeds=1, writer=writer)
    found = figures(table)
    assert found["scripted, 3 unlabelled images per class", "cACC"][0] >= 7 / 8


def test_without_an_image_to_guess_from_there_is_no_protocol(tmp_path):
    pictures(tmp_path / "set", {"owl": ["barn owl"], "gull": ["penguin"]})
    with pytest.raises(RecognizerError, match="set has no image from which to guess names"):
        fine_grained(SeeingBench(), tmp_path / "set", root="bird")
