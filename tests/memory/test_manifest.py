import hashlib
import json
from dataclasses import replace

import pytest

from memory import Memory, MemoryDamaged, MemoryNotFound, SchemaTooNew
from memory.manifest import MANIFEST_COPY, MANIFEST_NAME, Manifest, read_copy, read_manifest, write_manifest
from tests.memory.building import build


def _dumped(body):
    return json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


def test_a_newer_schema_is_told_from_damage_and_not_overwritten(built, categories, encoder):
    body = json.loads((built / MANIFEST_NAME).read_bytes())
    del body["sha256"]
    body["schema"] = 99
    body["sha256"] = hashlib.sha256(_dumped(body)).hexdigest()
    (built / MANIFEST_NAME).write_bytes(_dumped(body))
    with pytest.raises(SchemaTooNew, match="schema 99; this release reads up to 2"):
        Memory.open(built)
    with pytest.raises(SchemaTooNew):
        build(categories, built, encoder)


def test_changed_counts_in_the_manifest_are_damage(built):
    path = built / MANIFEST_NAME
    body = json.loads(path.read_bytes())
    body["tables"]["categories"]["rows"] = 1
    path.write_text(json.dumps(body))
    (built / MANIFEST_COPY).unlink()
    with pytest.raises(MemoryDamaged, match="changed since it was written"):
        Memory.open(built)


def test_nothing_is_no_memory(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(MemoryNotFound, match=r"no MEMORY.json"):
            Memory.open(path)


def test_a_manifest_is_read_as_it_was_written(built, tmp_path):
    manifest = read_manifest(built)
    assert {"categories", "descriptions", "exemplars"} == manifest.tables.keys()
    changed = replace(manifest, settings={"a": ["é", 1.5, None]}, templates=("{}",))
    write_manifest(tmp_path, changed)
    assert read_manifest(tmp_path) == changed
    assert changed.tables_digest() == manifest.tables_digest()


def test_the_digest_of_the_tables_changes_with_any_file(built):
    manifest = read_manifest(built)
    name, table = next(iter(manifest.tables.items()))
    path, record = next(iter(table.files.items()))
    files = {**table.files, path: replace(record, sha256="0" * 64)}
    changed = replace(manifest, tables={**manifest.tables, name: replace(table, files=files)})
    assert changed.tables_digest() != manifest.tables_digest()


def test_a_table_that_is_not_stored_has_no_rows(encoder):
    assert Manifest(1, encoder.card, ("{}",), {}, {}).rows("exemplars") == 0


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"schema": "x"}'])
def test_other_content_is_damage(tmp_path, content):
    (tmp_path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(MemoryDamaged, match="is damaged"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "path",
    ["other.lance/a", "categories.lance", "categories.lance/../a", "categories.lance/./a", "categories.lance//a"],
)
def test_a_list_of_files_outside_of_the_table_is_damage(built, path):
    body = json.loads((built / MANIFEST_NAME).read_bytes())
    del body["sha256"]
    files = body["tables"]["categories"]["files"]
    files[path] = next(iter(files.values()))
    body["sha256"] = hashlib.sha256(_dumped(body)).hexdigest()
    (built / MANIFEST_NAME).write_bytes(_dumped(body))
    with pytest.raises(MemoryDamaged, match="is damaged"):
        read_copy(built / MANIFEST_NAME)
