import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import Description, LabelError, read_labels
from memory.labels.names import clean_name


def write(tmp_path, content, name="labels.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def shape(categories):
    return [(c.name, c.group, [d.text for d in c.descriptions]) for c in categories]


FORMATS = [
    ("names.txt", "cat\ndog\n", [("cat", "", []), ("dog", "", [])]),
    ("no last newline, blank lines, spaces", "\n cat \n\ndog", [("cat", "", []), ("dog", "", [])]),
    ("bom and crlf", b"\xef\xbb\xbfcat\r\ndog\r\n", [("cat", "", []), ("dog", "", [])]),
    ("commas in names", "bass, the fish\nbass, the guitar",
     [("bass, the fish", "", []), ("bass, the guitar", "", [])]),
    ("line separators", "a\u2028b\nc\x85d\x0be", [("a\u2028b", "", []), (r"c\x85d\x0be", "", [])]),
    ("labels.csv", "name\ncat\n", [("cat", "", [])]),
    ("csv in .txt", "name,description\ncat,whiskers\ncat,a tail\ndog,\n",
     [("cat", "", ["whiskers", "a tail"]), ("dog", "", [])]),
    ("semicolons", "Name;Description\ncat;whiskers, long\n", [("cat", "", ["whiskers, long"])]),
    ("tsv", "name\tgroup\ncrane\tbird\n", [("crane", "bird", [])]),
    ("newline in a csv name", 'name,description\n"a\n""b""",x\n', [('a\n"b"', "", ["x"])]),
    ("merge", "name,description\ncat,x\ndog,y\ncat,x\ncat,z", [("cat", "", ["x", "z"]), ("dog", "", ["y"])]),
    ("composed and decomposed", "caf\u00e9\ncafe\u0301\n", [("café", "", [])]),
    ("descriptors.json", '{"cat": ["whiskers", "a tail"], "dog": [], "emu": "tall"}',
     [("cat", "", ["whiskers", "a tail"]), ("dog", "", []), ("emu", "", ["tall"])]),
    ("json in .txt", ' {"cat": ["whiskers"]}', [("cat", "", ["whiskers"])]),
    ("json list of names", '["cat", "dog"]', [("cat", "", []), ("dog", "", [])]),
    ("json records", '[{"name": "cat", "description": "x"}]', [("cat", "", ["x"])]),
    ("one record", '{"name": "cat", "descriptions": ["x", "y"]}', [("cat", "", ["x", "y"])]),
    ("jsonl", '{"name": "cat", "descriptions": ["x"]}\n\n{"name": "dog", "group": "pet"}\n',
     [("cat", "", ["x"]), ("dog", "pet", [])]),
    ("coco", '{"images": [], "categories": [{"id": 1, "name": "cat", "supercategory": "animal"}]}',
     [("cat", "animal", [])]),
    ("lvis", '{"categories": [{"id": 1, "name": "aerosol_can", "def": "a can", "synonyms": ["spray"]}]}',
     [("aerosol_can", "", ["a can"])]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "expected"), FORMATS, ids=[name for name, _, _ in FORMATS])
def test_formats_are_detected_by_content(tmp_path, name, content, expected):
    path = write(tmp_path, content, name if "." in name and " " not in name else "labels.txt")
    assert shape(read_labels(path)) == expected


def test_cupl_is_told_from_descriptors_by_the_names_in_the_texts(tmp_path):
    path = write(tmp_path, '{"crane": ["A crane is tall.", "Cranes dance.", "Long legs."]}')
    assert {d.kind for d in read_labels(path)[0].descriptions} == {"sentence"}
    assert {d.kind for d in read_labels(path, format="descriptors")[0].descriptions} == {"attribute"}
    other = write(tmp_path, '{"crane": ["long legs", "a crane-like neck"]}')
    assert {d.kind for d in read_labels(other)[0].descriptions} == {"attribute"}
    assert {d.kind for d in read_labels(other, format="cupl")[0].descriptions} == {"sentence"}


def test_a_forced_format_wins_over_the_content(tmp_path):
    path = write(tmp_path, "name,group\ncat,pet")
    assert shape(read_labels(path, format="text")) == [("name,group", "", []), ("cat,pet", "", [])]


def test_further_columns_and_fields_are_metadata(tmp_path):
    table = write(tmp_path, "name,wnid,note\ncat,n01,\ncat,,soft\n")
    assert read_labels(table)[0].metadata == {"wnid": "n01", "note": "soft"}
    lines = write(tmp_path, '{"name": "cat", "id": 7, "tame": true, "metadata": {"wnid": "n01"}, "none": null}\n')
    assert read_labels(lines)[0].metadata == {"id": "7", "tame": "true", "wnid": "n01"}


def test_several_descriptions_stand_in_several_rows_or_between_semicolons(tmp_path):
    path = write(tmp_path, 'name,Descriptions,description\ncat,"soft; ;long whiskers ",a cat\ncat,,lazy\ndog,,\n')
    assert shape(read_labels(path)) == [("cat", "", ["a cat", "soft", "long whiskers", "lazy"]), ("dog", "", [])]
    assert read_labels(path)[0].metadata == {}


def test_jsonl_descriptions_keep_kind_and_source(tmp_path):
    line = {"name": "cat", "descriptions": [{"text": "A cat.", "kind": "sentence", "source": "web"}, "soft"]}
    category = read_labels(write(tmp_path, json.dumps(line) + "\n", "labels.jsonl"))[0]
    assert category.descriptions == (
        Description("A cat.", "sentence", "web"),
        Description("soft", source="labels.jsonl"),
    )


def test_a_folder_of_folders_gives_names_and_exemplars(tmp_path):
    for file in ("b/2.JPG", "b/deep/1.png", "b/notes.txt", "a/.hidden.jpg", ".git/x.jpg"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    categories = read_labels(tmp_path)
    assert [c.name for c in categories] == ["a", "b"]
    assert categories[0].exemplars == ()
    assert categories[1].exemplars == (str(tmp_path / "b/2.JPG"), str(tmp_path / "b/deep/1.png"))


def test_one_name_in_two_groups_needs_the_group_in_the_key(tmp_path):
    path = write(tmp_path, "name,group\ncrane,bird\ncat,pet\ncrane,machine\n")
    with pytest.raises(LabelError, match=r"line 4: .*'bird' \(line 2\) and 'machine' \(line 4\).*--key name,group"):
        read_labels(path)
    assert [c.group for c in read_labels(path, key="name,group")] == ["bird", "pet", "machine"]


ERRORS = [
    ("empty", b"", None, "the file is empty"),
    ("only blanks", b" \n\n", None, "the file is empty"),
    ("not utf-8", b"cat\nd\xe9g\n", 2, "byte 5 is not UTF-8"),
    ("utf-16", "cat\n".encode("utf-16"), 1, "looks like UTF-16"),
    ("nul", b"cat\nd\0g\n", 2, "NUL"),
    (
        "no name column.csv",
        b"label,group\ncat,pet\n",
        1,
        "no 'name' column; its columns are 'label', 'group'.*--format text",
    ),
    ("unclosed quote", b'name,description\ncat,x\n"dog,y\nemu,z\n', 3, "quote that opens here is never closed"),
    ("too many cells", b"name,description\ncat,x,y\n", 2, "3 cells, the header 2"),
    ("no name", b"name,description\ncat,x\n,y\n", 3, "no name"),
    ("two equal columns", b"name,name\ncat,x\n", 1, "two columns are called 'name'"),
    ("header only", b"name,description\n", None, "no category"),
    ("duplicate key", b'{"cat": ["x"],\n "dog": [{"cat": 1}],\n "cat": ["y"]}', 3, "key 'cat' occurs twice"),
    ("nan", b'[{"name": "cat", "n": "NaN",\n "w": NaN}]', 2, "NaN is not a JSON value"),
    ("broken json", b'{"cat": ["x"]\n', 2, "not JSON.*--format"),
    ("deep nesting", b'["a",' + b"[" * 100_000, 1, "nested too deeply|not JSON"),
    ("huge number", b'[{"name": "cat", "n": ' + b"1" * 5000 + b"}]", 1, "number cannot be read"),
    ("wrong value", b'{"cat": [1]}', None, r"at \$\['cat'\]: expected a list of texts"),
    ("nested groups", b'{"pets": {"cat": ["x"]}}', None, "expected a list of texts, found dict"),
    ("coco without names", b'{"categories": [{"id": 1}]}', None, r"\$.categories\[0\]: the category has no name"),
    ("record without name", b'{"name": "cat"}\n{"label": "dog"}\n', 2, "expected an object with a name"),
    ("bad description", b'{"name": "cat", "descriptions": [{"text": 1}]}\n{"name": "x"}', 1, "not a description"),
    (
        "bad kind",
        b'{"name": "x"}\n{"name": "cat", "descriptions": [{"text": "x", "kind": "y"}]}',
        2,
        "not a description",
    ),
    ("list as metadata", b'[{"name": "cat", "tags": ["x"]}]', None, r"\$\[0\]: the field 'tags' holds list"),
    ("lone surrogate", b'["\\ud800"]', None, "lone surrogate"),
    ("empty name", b'{"": ["x"]}', None, "name is empty"),
    ("invisible name", b"cat\n\xe2\x80\x8b\n", 2, "no visible character"),
    ("no categories", b'{"categories": []}', None, r"\$.categories: the list under 'categories' is empty"),
    ("a picture", b"\xff\xd8\xff\xe0\x00\x10JFIF", None, "this is a JPEG image"),
    ("a sheet", b"PK\x03\x04\x14\x00", None, "this is an Excel sheet or a ZIP archive. Save the sheet as CSV"),
    ("a photo of a phone", b"\0\0\0\x24ftypheic", None, "this is a HEIC or AVIF image, or a video"),
    ("UTF-16", b"\xff\xfec\0", 1, "it looks like UTF-16 text"),
    ("aliases that are no names", b'{"name": "cat", "aliases": [1]}', None, "the aliases are list"),
]


@pytest.mark.parametrize(("name", "content", "line", "message"), ERRORS, ids=[name for name, *_ in ERRORS])
def test_what_cannot_be_read_is_named_with_its_place_and_remedy(tmp_path, name, content, line, message):
    path = write(tmp_path, content, f"{name}.txt" if "." not in name else name)
    with pytest.raises(LabelError, match=message) as caught:
        read_labels(path)
    assert caught.value.line == line
    assert str(path) in str(caught.value)
    assert caught.value.remedy in str(caught.value)


def test_missing_files_folders_without_folders_and_unknown_options_are_refused(tmp_path):
    with pytest.raises(LabelError, match="No such file"):
        read_labels(tmp_path / "none.txt")
    with pytest.raises(LabelError, match="holds no folders"):
        read_labels(tmp_path)
    with pytest.raises(LabelError, match="is not a folder"):
        read_labels(write(tmp_path, "cat"), format="folder")
    with pytest.raises(ValueError, match="unknown label format 'xml'"):
        read_labels(tmp_path, format="xml")
    with pytest.raises(ValueError, match="key 'group'"):
        read_labels(write(tmp_path, "cat"), key="group")


HOSTILE = [
    "a\nb",
    '"quoted"',
    "=cmd()",
    "x" * 10_000,
    "🦩\u200d🦩",
    "مرحبا",
    r"\x1b[2J",
    "a,b;c\td",
    "[cat]",
    "{}",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_data(tmp_path, name):
    assert read_labels(write(tmp_path, json.dumps([name])))[0].name == name
    quoted = name.replace('"', '""')
    assert read_labels(write(tmp_path, f'name,description\n"{quoted}",x\n'))[0].name == name


def test_a_cell_may_be_longer_than_the_csv_module_expects(tmp_path):
    text = "y" * 200_000
    assert read_labels(write(tmp_path, f"name,description\ncat,{text}\n"))[0].descriptions[0].text == text


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
NAMES = TEXTS.filter(clean_name)


@given(NAMES, TEXTS)
def test_any_name_survives_a_json_file(tmp_path_factory, name, text):
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    path.write_text(json.dumps([{"name": name, "description": text}]), encoding="utf-8")
    category = read_labels(path)[0]
    assert category.name == clean_name(name)
    assert category.descriptions[0].text == text
