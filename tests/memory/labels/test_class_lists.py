import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import LabelError, read_labels

READ = [
    ('{"label2id": {"dog": 1, "cat": 0}, "model_type": "vit"}', "Hugging Face label2id", ["cat", "dog"]),
    ('{"dog": 1, "cat": 0}', "indexes by name (class_to_idx)", ["cat", "dog"]),
    ('{"dog": "1", "cat": "0"}', "indexes by name (class_to_idx)", ["cat", "dog"]),
    ('{"10": "dog", "9": "cat"}', "names by index (index_to_name)", ["cat", "dog"]),
    ('{"0": "0", "1": "1"}', "names by index (index_to_name)", ["0", "1"]),
    ('{"object_type_names": {"0": "cat", "1": "dog"}}', "list under 'object_type_names'", ["cat", "dog"]),
    ('{"classes": ["cat", "dog"], "version": "1.0", "size": [224, 224]}', "list under 'classes'", ["cat", "dog"]),
    ('{"classes": ["cat", "dog"], "templates": ["a {c}"]}', "list under 'classes'", ["cat", "dog"]),
    ('{"CLASSES": ["cat", "dog"]}', "list under 'CLASSES'", ["cat", "dog"]),
    ('{"categories": ["cat", "dog"]}', "list under 'categories'", ["cat", "dog"]),
    ('{"class_to_idx": {"dog": 1, "cat": 0}, "epoch": 3}', "list under 'class_to_idx'", ["cat", "dog"]),
    ('{"n02119022": "red fox", "n02012849": ["crane", "hoist"]}', "names by WordNet id", ["red fox", "crane"]),
    ('{"a cat": "cat", "person": "person", "a soda": "drink"}', "autodistill ontology (caption: class)",
     ["cat", "person", "drink"]),
    ("{0: 'tench, Tinca tinca', 1: 'it\\'s'}", "names by index (index_to_name)", ["tench, Tinca tinca", "it's"]),
    ("['cat', \"dog\",\n]", "JSON list of names", ["cat", "dog"]),
    # Descriptions by name, as before.
    ('{"labels": ["sticky paper"], "cans": ["shiny metal"]}', "JSON of descriptions by name", ["labels", "cans"]),
    ('{"emu": "tall", "cat": "furry"}', "JSON of descriptions by name", ["emu", "cat"]),
    ('{"crane": "A crane is tall."}', "JSON of sentences by name (CuPL)", ["crane"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "format", "names"), READ)
def test_class_lists_are_told_from_descriptions(tmp_path, text, format, names):
    path = tmp_path / "labels.txt"
    path.write_text(text)
    labels = read_labels(path)
    assert (labels.format, [category.name for category in labels]) == (format, names)


def test_further_names_of_a_synset_are_aliases(tmp_path):
    path = tmp_path / "synsets.json"
    path.write_text('{"n02012849": ["crane", "hoist"]}')
    (crane,) = read_labels(path)
    assert (crane.aliases, crane.metadata) == (("hoist",), {"wnid": "n02012849"})


def test_two_classes_of_one_name_are_one_category_and_said(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text('{"0": ["n02012849", "crane"], "1": ["n03126707", "crane"]}')
    labels = read_labels(path)
    assert len(labels) == 1
    assert "'crane' ($.0 and $.1)" in labels.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}', "placeholders instead of names, such as 'LABEL_0'"),
        ('{"names": []}', "the list under 'names' is empty"),
        ('{"model_type": "vit", "hidden_size": 768}', "expected a list of texts, found int"),
        ("{'cat': ['x'], 'cat': ['y']}", "the key 'cat' occurs twice"),
        ('{"nc": 3, "epochs": 10}', "expected a list of texts, found int"),
        ('{"a": {"0": "cat"}}', "expected a list of texts, found dict"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(tmp_path, text, message):
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(LabelError, match=message):
        read_labels(path)


# Letters alone: other names may be ids, numbers or captions of each other.
NAMES = st.lists(st.text("abcdefgh", min_size=3), min_size=1, unique=True)


@given(NAMES)
def test_the_same_classes_in_any_form_are_the_same_categories(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("labels")
    forms = [
        names,
        {"names": names},
        {"id2label": {str(index): name for index, name in enumerate(names)}},
        {str(index): name for index, name in enumerate(names)},
        {name: index for index, name in enumerate(names)},
        {str(index): [f"n{index:08d}", name] for index, name in enumerate(names)},
        {"categories": [{"id": index, "name": name} for index, name in enumerate(names)]},
        {name: [] for name in names},
    ]
    for number, document in enumerate(forms):
        path = folder / f"{number}.json"
        path.write_text(json.dumps(document))
        assert [category.name for category in read_labels(path)] == names
    texts = {
        "data.yaml": "nc: 1\nnames: " + json.dumps(names),
        "map.yaml": "names:\n" + "".join(f"  {index}: {name}\n" for index, name in enumerate(names)),
        "labelmap.pbtxt": "".join(f'item {{\n id: {n}\n name: "{name}"\n}}\n' for n, name in enumerate(names)),
        "config.xml": "<View>" + "".join(f'<Label value="{name}"/>' for name in names) + "</View>",
        "names.txt": "\n".join(names),
        "names.csv": "name,wnid\n" + "\n".join(f"{name},x" for name in names),
        "synsets.txt": "\n".join(f"n{index:08d} {name}" for index, name in enumerate(names)),
        "classes.csv": "\n".join(f"/m/0{index},{name}" for index, name in enumerate(names)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        assert [category.name for category in read_labels(folder / name)] == names
