import base64
import json

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory import Category, Description, Memory, read_labels
from memory.labels.names import clean_name
from tests.memory.building import build, exemplar_set, exported
from tests.memory.fake_encoder import FakeEncoder


def test_the_export_can_be_read_as_a_label_file(categories, directory, encoder, tmp_path):
    build(categories, directory, encoder)
    for vectors in (False, True):
        path = tmp_path / "export.jsonl"
        path.write_text(exported(Memory.open(directory), vectors=vectors), encoding="utf-8", newline="\n")
        back = read_labels(path, key="name,group")
        assert sorted(back, key=lambda c: c.id) == sorted(categories, key=lambda c: c.id)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
NAMES = TEXTS.map(clean_name).filter(bool)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(NAMES, TEXTS, st.lists(NAMES, unique=True, max_size=2)),
        min_size=1,
        max_size=5,
        unique_by=lambda entry: entry[0],
    )
)
def test_any_name_survives_build_export_and_reading(tmp_path_factory, entries):
    directory = tmp_path_factory.mktemp("memory")
    categories = [
        Category(name, descriptions=(Description(text),), aliases=tuple(a for a in aliases if a != name))
        for name, text, aliases in entries
    ]
    build(categories, directory / "m", FakeEncoder())
    memory = Memory.open(directory / "m")
    assert sorted(memory.vectors.categories, key=lambda c: c.id) == sorted(categories, key=lambda c: c.id)
    path = directory / "export.jsonl"
    path.write_text(exported(memory, vectors=False), encoding="utf-8", newline="\n")
    assert {c.name: c for c in read_labels(path)} == {c.name: c for c in categories}


def test_exported_vectors_are_those_of_the_memory(categories, directory, encoder):
    vectors = build(categories, directory, encoder, exemplars=exemplar_set(categories, 2)).vectors
    for row, line in enumerate(map(json.loads, exported(Memory.open(directory)).splitlines())):
        spans = {
            "name": vectors.names[row : row + 1],
            "grounded": vectors.grounded[vectors.offsets[row] : vectors.offsets[row + 1]],
            "bare": vectors.bare[vectors.offsets[row] : vectors.offsets[row + 1]],
            "exemplars": vectors.exemplars[vectors.exemplar_offsets[row] : vectors.exemplar_offsets[row + 1]],
        }
        for part, rows in spans.items():
            values = np.frombuffer(base64.b64decode(line["vectors"][part]), "<f4").reshape(-1, 16)
            np.testing.assert_array_equal(values, rows)
        assert len(line["exemplar_hashes"]) == 2
