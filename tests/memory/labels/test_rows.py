import json
import random

import pytest

from memory import LabelError, read_labels
from memory.merging import SpooledCategories
from tests.memory.labels.test_labels import ERRORS, FORMATS, write
from tests.memory.labels.test_text import READ

CONTENTS = [content for _, content, _ in FORMATS] + [text for text, _, _ in READ]
CONTENTS += [content for _, content, *_ in ERRORS]
CONTENTS += [
    "name,parent\nfox,dog\ndog,animal\n",
    '{"name": "fox", "parent": "dog"}\n{"name": "dog"}\n',
    "family,genus,species\nCanidae,Vulpes,vulpes\n,Vulpes,lagopus\n",
    "names:\n  - cat\n  - dog\npath: x\n",
    "0 cat\n1 cat\n2 dog\n",
    "# one\n# two\ncat\ncat\n",
    "['cat', 'dog']",
    'item {\n  name: "cat"\n}\n',
    "<View><Label value='cat'/></View>",
]


@pytest.fixture
def is_large(monkeypatch):
    """A file of any size is read as a large one."""
    monkeypatch.setattr("memory.labels.rows.HELD_BYTES", -1)
    monkeypatch.setattr("memory.merging.HELD_CATEGORIES", 0)


def outcome(path):
    try:
        labels = read_labels(path)
    except LabelError as error:
        return str(error)
    return list(labels), str(labels), labels.notes


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
def test_a_large_file_is_read_as_a_small_one(tmp_path, content, request):
    path = write(tmp_path, content, "labels.txt")
    wanted = outcome(path)
    request.getfixturevalue("is_large")
    assert outcome(path) == wanted


def test_rows_are_not_held(tmp_path, is_large, monkeypatch):
    rows = [(f"thing {n}", f"part {n % 7}") for n in range(500)]
    random.Random(0).shuffle(rows)
    table = write(tmp_path, "name,description\n" + "".join(f"{a},{b}\n" for a, b in rows), "labels.csv")
    lines = write(tmp_path, "".join(json.dumps({"name": a, "description": b}) + "\n" for a, b in rows), "labels.jsonl")
    names = write(tmp_path, "".join(f"{a}\n" for a, _ in rows))
    monkeypatch.setattr("memory.labels.rows.LabelFile.text", None)  # the whole of it
    for path in (table, lines, names):
        labels = read_labels(path)
        assert isinstance(labels.categories, SpooledCategories)
        assert [(c.name, *(d.text for d in c.descriptions)) for c in labels] == (
            rows if path != names else [(name,) for name, _ in rows]
        )
