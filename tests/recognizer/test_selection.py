import numpy as np
import pytest

from memory import Category, Memory
from recognizer import Recognizer
from recognizer.selection import SelectionError, select_categories
from recognizer.settings import load_settings

CATEGORIES = [
    Category("red fox", "mammals", aliases=("Vulpes vulpes",)),
    Category("crane", "birds"),
    Category("crane", "machines"),
    Category("tabby cat", "mammals"),
    Category("cup of coffee"),
]


@pytest.fixture(scope="module")
def memory(starter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("selection") / "memory"
    Memory.build(CATEGORIES, folder, encoder=starter, templates=["{}"])
    return Memory.open(folder)


def names(memory, selection):
    return sorted((memory.vectors.categories[row].name, memory.vectors.categories[row].group) for row in selection.rows)


def test_names_and_aliases_choose_and_take_away(memory):
    fox, crane, machine = ("red fox", "mammals"), ("crane", "birds"), ("crane", "machines")
    assert names(memory, select_categories(memory, ["Vulpes vulpes", "crane"])) == [crane, machine, fox]
    assert names(memory, select_categories(memory, ["red fox", "crane"], ["crane"])) == [fox]
    assert len(select_categories(memory, without=["red fox"]).rows) == 4
    assert select_categories(memory) is None
    assert select_categories(memory, [category.name for category in CATEGORIES]) is None


def test_a_label_file_chooses_by_name_and_by_group_where_it_has_one(memory, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("name,group\ncrane,birds\nred fox,\n")
    assert names(memory, select_categories(memory, [str(table)])) == [("crane", "birds"), ("red fox", "mammals")]


def test_a_name_is_a_category_even_where_a_file_is_called_so(memory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "red fox").write_text("crane\n")
    assert names(memory, select_categories(memory, ["red fox"])) == [("red fox", "mammals")]


def test_equal_choices_have_equal_hashes_however_they_were_named(memory):
    one = select_categories(memory, ["red fox", "crane"])
    other = select_categories(memory, without=["tabby cat", "cup of coffee"])
    assert one.sha256 == other.sha256
    assert one.sha256 != select_categories(memory, ["red fox"]).sha256


def test_unknown_names_are_refused_with_the_nearest(memory, tmp_path):
    said = r"not in the memory: 'Red Fix' \(did you mean 'red fox'\?\); 'zzz'\. The memory has, for example, '"
    with pytest.raises(SelectionError, match=said):
        select_categories(memory, ["Red Fix", "zzz"])
    (tmp_path / "labels.txt").write_text("red fox\ntaby cat\n")
    with pytest.raises(SelectionError, match=r"'taby cat' \(did you mean 'tabby cat'\?\)"):
        select_categories(memory, without=[str(tmp_path / "labels.txt")])
    with pytest.raises(SelectionError, match="; and 4 more"):
        select_categories(memory, [f"qqq{number}" for number in range(9)])


def test_a_list_with_commas_is_told_how_to_be_written(memory, tmp_path):
    said = r"'red fox,crane' \(did .*\)\. For several categories repeat --only, once for each name\. The memory has"
    with pytest.raises(SelectionError, match=said):
        select_categories(memory, ["red fox,crane"])
    with pytest.raises(SelectionError, match=r"repeat --without, once"):
        select_categories(memory, without=["tabby cat, crane"])
    (tmp_path / "labels.csv").write_text('name\n"red fox, vixen"\n')
    with pytest.raises(SelectionError) as refused:
        select_categories(memory, [str(tmp_path / "labels.csv")])
    assert "repeat" not in str(refused.value)


def test_no_category_left_is_refused(memory):
    with pytest.raises(SelectionError, match="no category is left"):
        select_categories(memory, ["red fox"], ["red fox"])


def test_chosen_categories_compete_as_in_a_memory_of_them_alone(starter, memory, photos, tmp_path):
    chosen = [CATEGORIES[0], CATEGORIES[3], CATEGORIES[4]]
    Memory.build(chosen, tmp_path / "m", encoder=starter, templates=["{}"])
    images = [photos / "cat.jpg", photos / "coffee.jpg"]
    expected = Recognizer(starter, Memory.open(tmp_path / "m")).recognize(images)
    only = select_categories(memory, without=["crane"]).rows
    assert Recognizer(starter, memory, only=only).recognize(images) == expected
    hnsw = load_settings(overrides=["run.index=hnsw"])
    assert Recognizer(starter, memory, settings=hnsw, only=only).recognize(images) == expected


def test_a_calibration_of_all_categories_does_not_hold_for_some(starter, memory, photos):
    settings = load_settings(overrides=["score.calibrated=true", "score.unknown_threshold=1"])
    only = np.array([0, 3])
    whole, part = (
        Recognizer(starter, memory, settings=settings, only=rows).recognize([photos / "cat.jpg"])[0]
        for rows in (None, only)
    )
    assert (whole.calibrated, whole.unknown) == (True, True)
    assert (part.calibrated, part.unknown) == (False, None)
