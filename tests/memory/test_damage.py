import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from memory import Memory, MemoryDamaged, MemoryNotFound, MemoryStoreError, SchemaTooNew
from memory.manifest import MANIFEST_NAME
from tests.benchmarks.kill_build import survive
from tests.memory.test_memory import build, exemplar_set, exported

_NEWEST = 2**64 - 1
_KILLS = int(os.environ.get("MEMORY_KILLS", "3"))


@pytest.fixture
def built(categories, directory, encoder):
    build(categories, directory, encoder, exemplars=exemplar_set(categories, 1))
    Memory.open(directory).remove(["dog"])
    return directory


def vouched_files(directory):
    tables = json.loads((directory / MANIFEST_NAME).read_bytes())["tables"]
    return [directory / file for table in tables.values() for file in table["files"]]


def test_every_kind_of_file_is_vouched_for(built):
    kinds = {(path.parent.name, path.suffix) for path in vouched_files(built)}
    assert kinds >= {("data", ".lance"), ("_versions", ".manifest"), ("_transactions", ".txn")}
    assert any(folder == "_deletions" for folder, _ in kinds)


def test_single_flipped_bits_are_found_in_every_file(built):
    generator = random.Random(0)
    for path in [built / MANIFEST_NAME, *vouched_files(built)]:
        data = path.read_bytes()
        for _ in range(5):
            flipped = bytearray(data)
            flipped[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
            path.write_bytes(flipped)
            with pytest.raises(
                MemoryDamaged if path.name != MANIFEST_NAME else MemoryStoreError, match=r"[Bb]uild|schema"
            ):
                Memory.open(built)
        path.write_bytes(data)
    assert all(finding.ok for finding in Memory.open(built).verify())


@pytest.mark.parametrize("change", ["missing", "empty", "zeros", "half", "zero page"])
def test_files_as_a_power_loss_leaves_them_are_found(built, change):
    for path in vouched_files(built):
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


def test_an_open_memory_verifies_its_files_again(built):
    memory = Memory.open(built)
    path = next(p for p in vouched_files(built) if p.suffix == ".lance")
    path.write_bytes(path.read_bytes()[:-1])
    findings = {finding.check: finding for finding in memory.verify()}
    assert not findings["files"].ok
    assert "bytes instead of" in findings["files"].message


def newer_manifest(directory, content):
    tables = json.loads((directory / MANIFEST_NAME).read_bytes())["tables"]
    path = directory / "categories.lance/_versions" / f"{_NEWEST - tables['categories']['version'] - 1}.manifest"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [bytes(600), b"", b"\xff" * 600, b"garbage"])
def test_a_broken_newest_manifest_neither_empties_nor_closes_the_memory(built, encoder, categories, content):
    before = exported(Memory.open(built))
    path = newer_manifest(built, content)
    assert exported(Memory.open(built)) == before
    assert path.exists() or (built / "_quarantine" / f"categories.lance-_versions-{path.name}").read_bytes() == content
    newer_manifest(built, content)
    Memory.open(built).add([categories[1]], encoder=encoder)
    memory = Memory.open(built)
    assert sorted(c.name for c in memory.vectors.categories) == ["cat", "crane", "crane", "dog"]


def test_a_write_that_was_not_published_is_not_served_and_is_cleared_away(built, categories, encoder, monkeypatch):
    before = exported(Memory.open(built))

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("memory.build.write_manifest", fail)
        with pytest.raises(OSError, match="no space"):
            build(categories[:1], built, encoder)
        with pytest.raises(OSError, match="no space"):
            Memory.open(built).add(categories[1:2], encoder=encoder)
    assert exported(Memory.open(built)) == before
    Memory.open(built).remove(["cat"])
    left = {p for p in built.rglob("*.lance/*/*") if p.name != "latest_version_hint.json"}
    assert sorted(c.name for c in Memory.open(built).vectors.categories) == ["crane", "crane"]
    build(categories, built, encoder)
    build(categories, built, encoder)
    assert not {p for p in left if p.exists()}


def test_building_over_a_damaged_memory_reuses_what_is_intact(categories, directory, encoder):
    first = build(categories, directory, encoder)
    before = exported(Memory.open(directory))
    path = next(p for p in vouched_files(directory) if "descriptions.lance/data" in str(p))
    path.write_bytes(bytes(path.stat().st_size))
    report = build(categories, directory, encoder)
    assert 0 < report.texts_encoded < first.texts_encoded
    assert exported(Memory.open(directory)) == before
    (directory / MANIFEST_NAME).write_bytes(b"{}")
    with pytest.raises(MemoryDamaged, match="Build the memory again"):
        Memory.open(directory)
    assert build(categories, directory, encoder).texts_encoded == first.texts_encoded
    assert exported(Memory.open(directory)) == before


def test_a_newer_schema_is_told_from_damage_and_not_overwritten(built, categories, encoder):
    path = built / MANIFEST_NAME
    path.write_bytes(path.read_bytes().replace(b'"schema": 1', b'"schema": 99'))
    with pytest.raises(SchemaTooNew, match="schema 99; this release reads up to 1"):
        Memory.open(built)
    with pytest.raises(SchemaTooNew):
        build(categories, built, encoder)


def test_changed_counts_in_the_manifest_are_damage(built):
    path = built / MANIFEST_NAME
    body = json.loads(path.read_bytes())
    body["tables"]["categories"]["rows"] = 1
    path.write_text(json.dumps(body))
    with pytest.raises(MemoryDamaged, match="not as it was written"):
        Memory.open(built)


def test_nothing_is_no_memory(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(MemoryNotFound, match=r"no MEMORY.json"):
            Memory.open(path)


READ_ONLY = """
import os, sys
import numpy.random  # a library that another user may not read has to be loaded before
from memory import Memory, MemoryStoreError
Memory.open(sys.argv[1]).index()
if os.geteuid() == 0:
    os.setuid(65534)
memory = Memory.open(sys.argv[1])
assert memory.index(fold_key="other").categories.search(memory.vectors.names, 2)[1][1, 0] == 1
assert all(finding.ok or finding.check == "index" for finding in memory.verify())
try:
    memory.save_settings({"a": 1})
except MemoryStoreError as error:
    print(error)
"""


def test_a_memory_that_cannot_be_written_is_served(categories, encoder):
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "memory"
        build(categories, directory, encoder, index="hnsw")
        files = [Path(name), directory, *directory.rglob("*")]
        for path in files:
            path.chmod(0o555 if path.is_dir() else 0o444)
        command = [sys.executable, "-c", READ_ONLY, str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
        for path in files:
            path.chmod(stat.S_IRWXU)
    assert done.returncode == 0, done.stderr
    assert "cannot be written (Permission denied). Give write permission" in done.stdout


def test_a_stale_or_damaged_index_is_built_again(categories, directory, encoder):
    report = build(categories, directory, encoder, index="hnsw")
    assert report.ann_recall == 1.0
    memory = Memory.open(directory)
    assert memory.info().index_recall == {"categories": 1.0, "descriptions": 1.0}
    assert memory.verify()[-1].ok

    memory.remove(["dog"])
    assert not memory.verify()[-1].ok
    assert memory.info().index_recall == {}
    assert memory.index().categories.size == 3
    assert memory.verify()[-1].ok
    assert Memory.open(directory).info().index_recall == {"categories": 1.0, "descriptions": 1.0}

    for name in ("categories.hnsw", "descriptions.hnsw", "INDEX.json"):
        path = directory / "index" / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert not memory.verify()[-1].ok
        assert memory.index().descriptions.size == 4
        assert memory.verify()[-1].ok

    folded = memory.index(lambda vectors: 2 * vectors.names, "names")
    np.testing.assert_allclose(folded.categories.search(memory.vectors.names, 1)[0], 2.0, rtol=1e-5)
    build(categories, directory, encoder)
    assert not (directory / "index").exists()


def test_a_category_without_descriptions_is_found_by_its_name_among_descriptions(categories, directory, encoder):
    for kind in ("exact", "hnsw"):
        build(categories, directory, encoder, index=kind)
        memory = Memory.open(directory)
        index = memory.index()
        dog = [c.name for c in memory.vectors.categories].index("dog")
        _, rows = index.descriptions.search(memory.vectors.names[dog : dog + 1], 1)
        assert index.description_categories[rows[0, 0]] == dog
        assert index.descriptions.size == len(index.description_categories) == 5
        _, rows = index.descriptions.search(memory.vectors.bare, 1)
        owners = np.repeat(np.arange(4), np.diff(memory.vectors.offsets))
        assert index.description_categories[rows[:, 0]].tolist() == owners.tolist()


def test_copies_of_a_memory_are_memories(built, tmp_path):
    shutil.copytree(built, tmp_path / "copy")
    assert exported(Memory.open(tmp_path / "copy")) == exported(Memory.open(built))


def test_killed_builds_leave_the_old_memory_or_the_new_one(tmp_path):
    assert survive(tmp_path, _KILLS, seed=random.randrange(10**6))["kills"] == _KILLS
