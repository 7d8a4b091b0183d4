import shutil
from dataclasses import replace

import pyarrow as pa
import pytest

from memory import Category, Memory
from memory.manifest import read_manifest, write_manifest
from memory.store import TableStore
from memory.tables import schema
from tests.memory.building import build, exemplar_set, exported


@pytest.fixture
def earlier(categories, directory, encoder):
    """A memory as earlier releases wrote it: vectors of float32, schema 1, and no flat copy that we can read."""
    build(categories, directory, encoder, exemplars=exemplar_set(categories, 1))
    manifest, store, tables = read_manifest(directory), TableStore(directory), {}
    for name, record in manifest.tables.items():
        old = pa.schema(
            [
                pa.field(f.name, pa.list_(pa.float32(), 16)) if pa.types.is_fixed_size_list(f.type) else f
                for f in schema(name, 16)
            ]
        )
        batches = list(store.scan(name, record, old.names))
        tables[name] = store.replace(name, record, old, [pa.Table.from_batches(batches).cast(old).to_batches()[0]])
    write_manifest(directory, replace(manifest, tables=tables, schema=1))
    shutil.rmtree(directory / "flat")
    return directory


def test_a_memory_of_float32_is_read(earlier, categories, encoder, tmp_path):
    assert b'"content"' not in (earlier / "MEMORY.json").read_bytes()
    fresh = build(categories, tmp_path / "fresh", encoder, exemplars=exemplar_set(categories, 1))
    assert exported(Memory.open(earlier)) == exported(fresh)
    assert all(finding.ok for finding in Memory.open(earlier).verify())


def test_an_edit_writes_it_in_todays_form_first(earlier, categories, encoder, tmp_path):
    memory = Memory.open(earlier)
    memory.remove(["dog"])
    memory.add([Category("emu")], encoder=encoder)
    manifest = read_manifest(earlier)
    assert manifest.schema == 2
    kept = [categories[0], *categories[2:]]
    both = exemplar_set(categories, 1)
    others = replace(
        both,
        **{key: [getattr(both, key)[i] for i in (0, 2, 3)] for key in ("category_ids", "references", "hashes")},
        vectors=both.vectors[[0, 2, 3]],
    )
    fresh = build([*kept, Category("emu")], tmp_path / "fresh", encoder, exemplars=others)
    assert exported(memory) == exported(fresh)
    assert all(finding.ok for finding in Memory.open(earlier).verify())


def test_a_build_uses_its_vectors_again(earlier, categories, encoder):
    report = build(categories, earlier, encoder, exemplars=exemplar_set(categories, 1)).report
    assert (report.texts_encoded, report.unchanged) == (0, False)
    assert read_manifest(earlier).schema == 2
