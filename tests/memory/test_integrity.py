import json
import random
import shutil
from dataclasses import replace

import pytest

from memory import Category, Memory, MemoryDamaged, MemoryStoreError, integrity
from memory.durable import record_file
from memory.integrity import open_checked
from memory.manifest import MANIFEST_COPY, MANIFEST_NAME, read_manifest, write_manifest
from tests.memory.building import build, exported


def recorded_files(directory):
    tables = json.loads((directory / MANIFEST_NAME).read_bytes())["tables"]
    return [directory / file for table in tables.values() for file in table["files"]]


def test_every_kind_of_file_is_recorded(built):
    kinds = {(path.parent.name, path.suffix) for path in recorded_files(built)}
    assert kinds >= {("data", ".lance"), ("_versions", ".manifest"), ("_transactions", ".txn")}
    assert any(folder == "_deletions" for folder, _ in kinds)


def flipped(data, generator):
    changed = bytearray(data)
    changed[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return bytes(changed)


def test_either_copy_of_the_manifest_is_enough(built):
    before, data = exported(Memory.open(built)), (built / MANIFEST_NAME).read_bytes()
    assert (built / MANIFEST_COPY).read_bytes() == data
    generator = random.Random(1)
    for damaged, other in [(MANIFEST_NAME, MANIFEST_COPY), (MANIFEST_COPY, MANIFEST_NAME)]:
        for content in [None, b"", b"{}", data[:-9], *(flipped(data, generator) for _ in range(20))]:
            (built / damaged).unlink()
            if content is not None:
                (built / damaged).write_bytes(content)
            assert exported(Memory.open(built)) == before
            (built / other).write_bytes(flipped(data, generator))
            with pytest.raises(MemoryDamaged if content is not None else MemoryStoreError, match=r"[Bb]uild"):
                Memory.open(built)
            (built / other).write_bytes(data)
            (built / damaged).write_bytes(data)


def test_single_flipped_bits_are_found_in_every_file(built):
    generator = random.Random(0)
    for path in recorded_files(built):
        data = path.read_bytes()
        for _ in range(5):
            path.write_bytes(flipped(data, generator))
            with pytest.raises(MemoryDamaged, match=r"[Bb]uild"):
                Memory.open(built)
        path.write_bytes(data)
    assert all(finding.ok for finding in Memory.open(built).verify())


@pytest.mark.parametrize("change", ["missing", "empty", "zeros", "half", "zero page"])
def test_files_as_a_power_loss_leaves_them_are_found(built, change):
    for path in recorded_files(built):
        data = path.read_bytes()
        path.unlink()
        if change != "missing":
            half = data[: len(data) // 2]
            path.write_bytes(
                {"empty": b"", "zeros": bytes(len(data)), "half": half}.get(change, data[:-64] + bytes(64))
            )
        if change == "missing" or path.read_bytes() != data:
            with pytest.raises(MemoryDamaged, match=path.name):
                Memory.open(built)
        path.write_bytes(data)


def newer_manifest(directory, content):
    tables = json.loads((directory / MANIFEST_NAME).read_bytes())["tables"]
    path = directory / "categories.lance/_versions" / f"{2**64 - 1 - tables['categories']['version'] - 1}.manifest"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [bytes(600), b"", b"\xff" * 600, b"garbage"])
def test_a_broken_newest_manifest_neither_empties_nor_closes_the_memory(built, encoder, categories, content):
    before = exported(Memory.open(built))
    path = newer_manifest(built, content)
    assert exported(Memory.open(built)) == before
    assert path.read_bytes() == content  # readers move nothing
    Memory.open(built).add([categories[1]], encoder=encoder)
    memory = Memory.open(built)
    assert sorted(c.name for c in memory.vectors.categories) == ["cat", "crane", "crane", "dog"]


def test_building_over_a_damaged_memory_reuses_what_is_intact(categories, directory, encoder):
    first = build(categories, directory, encoder).report
    before = exported(Memory.open(directory))
    path = next(p for p in recorded_files(directory) if "descriptions.lance/data" in str(p))
    path.write_bytes(bytes(path.stat().st_size))
    (directory / "flat" / "FLAT.json").unlink()
    report = build(categories, directory, encoder).report
    assert 0 < report.texts_encoded < first.texts_encoded
    assert exported(Memory.open(directory)) == before
    path = next(p for p in recorded_files(directory) if "descriptions.lance/data" in str(p))
    path.write_bytes(bytes(path.stat().st_size))
    assert build(categories, directory, encoder).report.texts_encoded == 0  # the flat copy has them
    assert all(finding.ok for finding in Memory.open(directory).verify())
    for name in (MANIFEST_NAME, MANIFEST_COPY):
        (directory / name).write_bytes(b"{}")
    with pytest.raises(MemoryDamaged, match="Build the memory again"):
        Memory.open(directory)
    report = build(categories, directory, encoder).report
    assert (report.texts_encoded, report.texts_reused) == (0, first.texts_encoded)
    assert exported(Memory.open(directory)) == before


def test_copies_of_a_memory_are_memories(built, tmp_path):
    shutil.copytree(built, tmp_path / "copy")
    assert exported(Memory.open(tmp_path / "copy")) == exported(Memory.open(built))


def test_a_memory_that_is_rewritten_while_it_is_opened_is_opened_as_it_is_then(built, categories, encoder, monkeypatch):
    earlier = read_manifest(built)
    build(categories, built, encoder)
    build(categories, built, encoder)  # the files of the earlier version are gone
    current = read_manifest(built)
    answers = [earlier, current, current]
    monkeypatch.setattr("memory.integrity.read_manifest", lambda _: answers.pop(0))
    assert open_checked(built) == current


def test_a_memory_that_is_written_between_the_checks_of_a_reader_is_opened_as_it_is_then(built, encoder, monkeypatch):
    check, names = integrity.damaged_files, iter(["emu", "gnu"])

    def check_after_two_additions(directory, files, *, whole):
        for added in names:
            Memory.open(built).add([Category(added)], encoder=encoder)
        return check(directory, files, whole=whole)

    monkeypatch.setattr(integrity, "damaged_files", check_after_two_additions)
    opened = Memory.open(built)
    assert {"emu", "gnu"} <= {category.name for category in opened.vectors.categories}
    assert not (built / "_quarantine").exists()
    assert all(finding.ok for finding in Memory.open(built).verify())


def test_a_manifest_that_lists_files_elsewhere_is_damage(built, tmp_path):
    manifest = read_manifest(built)
    (tmp_path / "secret").write_text("x")
    for path in [
        "../secret",
        "/etc/passwd",
        "categories.lance/../../secret",
        "descriptions.lance/x",
        "categories.lance",
    ]:
        table = replace(manifest.tables["categories"], files={path: record_file(tmp_path / "secret")})
        write_manifest(built, replace(manifest, tables={**manifest.tables, "categories": table}))
        with pytest.raises(MemoryDamaged, match="damaged"):
            Memory.open(built)


def test_a_count_that_differs_from_the_table_is_damage(built):
    manifest = read_manifest(built)
    table = replace(manifest.tables["categories"], rows=9)
    write_manifest(built, replace(manifest, tables={**manifest.tables, "categories": table}))
    with pytest.raises(MemoryDamaged, match="'categories' has 3 rows instead of 9"):
        _ = Memory.open(built).vectors
