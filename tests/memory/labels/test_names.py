import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import LabelError, read_labels
from memory.labels.names import clean_name


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("cafe\u0301", "café"),
        ("cat\u200b", "cat"),
        ("\ufeffc\u00ada\u2060t", "cat"),
        ("\u202eevil\u202c", "evil"),
        ("a\u2066b\u2069\u200e\u061c", "ab"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\x85b\x7f", r"a\x85b\x7f"),
        ("a\nb\tc", "a\nb\tc"),
        ("cat\u200d", "cat"),
        ("c\u200cat", "cat"),
        ("\u200d" * 100_000 + "cat", "cat"),
        ("🦩\u200d\u200d\u200c🦩", "🦩🦩"),
        ("🦩\u200d🦩", "🦩\u200d🦩"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f3f4\U000e0067\U000e0062\U000e007f"),
        ("cat\U000e0067", "cat"),
        ("e\u200b\u0301", "é"),
    ],
)
def test_names_show_all_of_their_characters(name, clean):
    assert clean_name(name) == clean


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_clean_name_is_clean(name):
    clean = clean_name(name)
    assert clean_name(clean) == clean
    assert unicodedata.is_normalized("NFC", clean)
    assert not set(clean) & {"\u200b", "\u202e", "\x1b", "\ufeff"}


def test_changed_and_repeated_names_are_said_with_their_lines(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat\ndog\ncat\u200b\nco\x1bw\ndog\n", encoding="utf-8")
    labels = read_labels(path)
    assert [category.name for category in labels] == ["cat", "dog", r"co\x1bw"]
    changed, repeated = labels.notes
    assert changed.startswith("2 names with invisible")
    assert r"'cat\u200b' (line 3), read as 'cat'" in changed
    assert repeated.startswith("2 repeated names")
    assert "'cat' (line 1 and line 3)" in repeated
    assert "'dog' (line 2 and line 5)" in repeated


def test_rows_with_descriptions_of_one_category_are_not_repeated_names(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("name,description\ncat,soft\ncat,small\n")
    assert read_labels(path).notes == ()


def test_many_keys_and_columns_are_read_in_linear_time(tmp_path):
    # Minutes of comparisons where each key is compared with all before it.
    path = tmp_path / "many.json"
    keys = [*range(100_000), 99_999]
    path.write_text("{" + ",\n".join(f'"{key}x": []' for key in keys) + "}")
    with pytest.raises(LabelError, match="line 100001: the key '99999x' occurs twice"):
        read_labels(path)
    path = tmp_path / "many.csv"
    path.write_text("name," + ",".join(f"column {number}" for number in range(30_000)) + "\ncat\n")
    assert len(read_labels(path)) == 1
