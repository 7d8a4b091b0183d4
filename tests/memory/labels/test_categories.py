import tracemalloc

import pytest

from memory import Category, read_labels
from tests.memory.labels.test_labels import shape, write


def test_repeated_descriptions_are_said_and_count_once(tmp_path):
    labels = read_labels(write(tmp_path, "name,description\ncat,x\ndog,x\ncat,x\ncat,y\ncat,x\n", "labels.csv"))
    assert shape(labels) == [("cat", "", ["x", "y"]), ("dog", "", ["x"])]
    assert labels.notes == ("2 descriptions that the category has already, left out; the first: line 4",)


def test_equal_names_in_one_group_are_said_also_where_another_group_has_the_name(tmp_path):
    path = write(tmp_path, "name,group\ncrane,bird\ncrane,machine\ncrane,machine\n", "labels.csv")
    labels = read_labels(path, key="name,group")
    assert [category.group for category in labels] == ["bird", "machine"]
    assert labels.notes == ("1 repeated name, merged into one category each: 'crane' (line 3 and line 4)",)


def test_names_of_the_same_words_are_kept_apart_and_said_once(tmp_path):
    names = ["Red fox", "emu", "red  fox", "RED_FOX", "owl", "Emu", "red fox", "EMU"]
    labels = read_labels(write(tmp_path, "\n".join(names)))
    assert [category.name for category in labels] == names
    (note,) = labels.notes
    assert note == (
        "5 names with the same words as an earlier one, up to case and blanks, kept apart; write them alike to merge "
        "them: 'red  fox' (line 3) and 'Red fox' (line 1); 'RED_FOX' (line 4) and 'Red fox' (line 1); "
        "'Emu' (line 6) and 'emu' (line 2); ..."
    )
    path = write(tmp_path, "name,group\ncrane,bird\nCrane,machine\nCRANE,bird\ncrane,bird\n", "labels.csv")
    repeated, alike = read_labels(path, key="name,group").notes
    assert repeated.startswith("1 repeated name, merged")
    assert alike.startswith("1 name with the same words")
    assert alike.endswith(": 'CRANE' (line 4) and 'crane' (line 2)")


def test_a_name_with_very_many_descriptions_is_said(tmp_path):
    rows = ["owl,big eyes"] + [f"{name},part {number}" for number in range(1001) for name in ("bird", "owl", "emu")]
    rows.remove("emu,part 7")
    labels = read_labels(write(tmp_path, "name,description\n" + "\n".join(rows), "labels.csv"))
    assert labels.notes == (
        "2 names with more than 1000 descriptions, such as 'owl' with 1002; if the names are those of groups, say with "
        "--name-column which column holds the names",
    )


@pytest.mark.parametrize("kinds", [1, 1000])
def test_many_duplicates_are_one_sentence_and_take_no_memory(tmp_path, kinds):
    path = write(tmp_path, "".join(f"thing {number % kinds}\n" for number in range(30_000)))
    read_labels(path)  # what is loaded once
    tracemalloc.start()
    labels = read_labels(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(labels) == [Category(f"thing {number}") for number in range(kinds)]
    (note,) = labels.notes
    assert note.startswith(
        f"{30_000 - kinds} repeated names, merged into one category each: 'thing 0' (line 1 and line"
    )
    assert peak < 30 * path.stat().st_size
