import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from memory import Category, Memory
from memory.flat import FLAT_FOLDER, read_flat, write_flat
from memory.manifest import read_manifest
from memory.store import TableStore
from memory.tables import load_vectors
from memory.vectors import equal_vectors
from tests.memory.building import build


def from_tables(directory):
    manifest = read_manifest(directory)
    return load_vectors(TableStore(directory), manifest.tables, manifest.encoder.dim)


def test_readers_get_the_rows_of_the_tables_after_every_write(built, encoder):
    memory = Memory.open(built)
    for change in (
        lambda: None,
        lambda: memory.add([Category("a zebra"), Category("Aardvark")], encoder=encoder),
        lambda: memory.remove(["a zebra"]),
        lambda: memory.remove([category.id for category in Memory.open(built).vectors.categories]),
    ):
        change()
        manifest = read_manifest(built)
        flat = read_flat(built, manifest)
        assert flat is not None
        assert equal_vectors(load_vectors(flat, manifest.tables, manifest.encoder.dim), from_tables(built))
        assert all(finding.ok for finding in Memory.open(built).verify())


def test_vectors_are_read_only(built):
    names = Memory.open(built).vectors.names
    with pytest.raises(ValueError, match="read-only"):
        names[0, 0] = 1


def test_a_memory_is_read_without_lance(built):
    code = (
        "import sys; from memory import Memory; memory = Memory.open(sys.argv[1]); memory.info(); "
        "memory.bare_categories(); memory.index(); assert memory.vectors.names.any(); "
        "print([name for name in ('lancedb', 'lance', 'pandas', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(built)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("name", ["FLAT.json", "categories.arrow", "descriptions.arrow"])
def test_a_copy_that_is_damaged_missing_or_of_other_tables_is_not_used(built, name):
    expected = from_tables(built)
    path = built / FLAT_FOLDER / name
    data = path.read_bytes()
    for place in np.linspace(0, len(data) - 1, 40, dtype=int):
        changed = bytearray(data)
        changed[place] ^= 4
        path.write_bytes(changed)
        assert read_flat(built, read_manifest(built)) is None
    assert equal_vectors(Memory.open(built).vectors, expected)
    path.write_bytes(data[:-1])
    assert read_flat(built, read_manifest(built)) is None
    path.unlink()
    assert read_flat(built, read_manifest(built)) is None
    assert equal_vectors(Memory.open(built).vectors, expected)
    path.write_bytes(data)
    manifest = read_manifest(built)
    assert read_flat(built, manifest) is not None
    table = replace(manifest.tables["categories"], version=7)
    assert read_flat(built, replace(manifest, tables={**manifest.tables, "categories": table})) is None


def test_names_are_read_without_the_files_of_other_tables(built):
    (built / FLAT_FOLDER / "descriptions.arrow").write_bytes(b"")
    manifest = read_manifest(built)
    assert read_flat(built, manifest) is None
    assert read_flat(built, manifest, ("categories",)) is not None
    expected = [category.name for category in Memory.open(built).vectors.categories]
    assert [category.name for category in Memory.open(built).bare_categories()] == expected


def test_a_copy_with_other_rows_is_found(categories, directory, encoder, tmp_path):
    build(categories, directory, encoder)
    manifest = read_manifest(directory)
    build(categories[1:], tmp_path / "other", encoder)
    other = read_manifest(tmp_path / "other")
    write_flat(tmp_path / "other", replace(other, tables=other.tables))
    for path in (tmp_path / "other" / FLAT_FOLDER).glob("*.arrow"):
        path.replace(directory / FLAT_FOLDER / path.name)
    assert read_flat(directory, manifest) is None  # the card has other hashes
    assert equal_vectors(Memory.open(directory).vectors, from_tables(directory))


def test_a_full_disk_leaves_no_copy_and_a_memory_that_opens(built, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memory.flat.record_file", full)
    write_flat(built, read_manifest(built))
    assert not (built / FLAT_FOLDER).exists()
    assert equal_vectors(Memory.open(built).vectors, from_tables(built))
