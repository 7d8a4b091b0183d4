import pytest

from memory import LabelError, read_labels

LABEL_MAP = """
# comment
item {
  name: "/m/01g317"
  id: 1
  display_name: "person"
}
item {
  id: 2
  name: 'it\\'s {not} a brace'
  keypoints { id: 3 label: "nose" name: "x" }
}
item: { id: 4, name: "cat" }
"""
CONFIG = """<?xml version="1.0"?>
<!-- of a project -->
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="red fox" background="#FFA39E"/>
    <Label value="grey heron"/>
  </RectangleLabels>
  <Choices name="quality" toName="image"><Choice value="blurred"/></Choices>
</View>
"""
TAXONOMY = """<View><Taxonomy name="t" toName="x">
  <Choice value="Birds"><Choice value="heron"/><Choice value="crane"/></Choice>
  <Choice value="rock"/>
</Taxonomy></View>"""


def read(tmp_path, text, name="labels.txt", **options):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_labels(path, **options)


def names(labels):
    return [category.name for category in labels]


def test_yolo_names_are_texts_whatever_they_look_like(tmp_path):
    labels = read(tmp_path, "path: ../x\nnc: 4\nnames:\n  10: no\n  9: 3.10\n  11: red fox  # a comment\n  12: ~\n")
    assert (labels.format, names(labels)) == ("YOLO names", ["3.10", "no", "red fox", "~"])
    many = read(tmp_path, "train: a\nval: b\nnames:\n- red fox\n- 'yes'\nroboflow:\n  license: MIT\n", "data.yaml")
    assert names(many) == ["red fox", "yes"]
    assert names(read(tmp_path, "- cat\n- dog\n", "names.yml")) == ["cat", "dog"]
    assert names(read(tmp_path, "dog: 1\ncat: 0\n", "names.yml")) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: images/train\nnc: 3\n", "no list of names; its keys are 'train', 'nc'"),
        ("names: 3\n", "no list of names"),
        ("names: []\n", "the list under 'names' is empty"),
        ("names:\n  0: cat\n  0: dog\n", "line 3: .*the key '0' twice"),
        ("a: &x [cat]\nnames: *x\n", r"line 2: .*an alias \(\*\)"),
        ("names: [cat\n", "cannot be read"),
        ("names: " + "[" * 20_000, "nested too deeply|cannot be read"),
        ("names: \x07\n", "cannot be read"),
    ],
)
def test_other_yaml_is_refused(tmp_path, text, message):
    with pytest.raises(LabelError, match=message):
        read(tmp_path, text, "data.yaml")


def test_label_maps_prefer_the_name_for_display(tmp_path):
    labels = read(tmp_path, LABEL_MAP)
    assert (labels.format, names(labels)) == ("TensorFlow label map", ["person", "it's {not} a brace", "cat"])
    assert labels[0].metadata == {"mid": "/m/01g317"}
    with pytest.raises(LabelError, match="line 3: the item has no name"):
        read(tmp_path, 'item { id: 1 name: "x" }\n\nitem { id: 2 }\n')


def test_label_studio_gives_labels_else_choices_with_their_parents(tmp_path):
    labels = read(tmp_path, CONFIG)
    assert (labels.format, names(labels)) == ("Label Studio configuration", ["red fox", "grey heron"])
    assert [(c.name, c.group) for c in read(tmp_path, TAXONOMY)] == [
        ("heron", "Birds"),
        ("crane", "Birds"),
        ("rock", ""),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<View></View>", "the XML has no labels"),
        ("<View><Label value='x'></View>", "line 1: this is not XML"),
        ("<View><Label/></View>", "the name is empty"),
        ('<?xml version="1.0"?><!DOCTYPE x><View/>', "markup|DOCTYPE"),
        ("<View><!DOCTYPE x [<!ENTITY a 'b'>]></View>", "DOCTYPE"),
        ("<View>" + "<Choice value='x'>" * 20_000 + "</Choice>" * 20_000 + "</View>", "nested too deeply|no labels"),
        ("<html><body>cat</body></html>", "this looks like markup"),
        ("<!-- -->" * 100_000, "this looks like markup"),
    ],
)
def test_other_xml_is_refused(tmp_path, text, message):
    with pytest.raises(LabelError, match=message):
        read(tmp_path, text)
