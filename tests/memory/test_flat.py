import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from memory import Category, Description, Memory, MemoryDamaged
from memory.flat.files import FLAT_FOLDER
from memory.flat.reader import check_flat, columns_of_tables, read_flat
from memory.flat.writer import write_flat
from memory.manifest import read_manifest
from memory.store import TableStore
from memory.vectors import equal_vectors
from tests.memory.building import build, exported
from tests.memory.fake_encoder import FakeEncoder


def from_tables(directory):
    manifest = read_manifest(directory)
    return columns_of_tables(TableStore(directory), manifest.tables, manifest.encoder.dim).vectors()


def copy_file(directory, table, kind):
    *_, path = sorted((directory / FLAT_FOLDER).glob(f"{table}.*{kind}*"))
    return path


def test_readers_get_the_rows_of_the_tables_after_every_write(built, encoder):
    memory = Memory.open(built)
    for change in (
        lambda: None,
        lambda: memory.add([Category("a zebra"), Category("Aardvark")], encoder=encoder),
        lambda: memory.remove(["a zebra"]),
        lambda: memory.remove([category.id for category in Memory.open(built).vectors.categories]),
    ):
        change()
        flat = read_flat(built, read_manifest(built))
        assert flat is not None
        assert equal_vectors(flat.vectors(), from_tables(built))
        assert all(finding.ok for finding in Memory.open(built).verify())


def test_vectors_are_read_only(built):
    names = Memory.open(built).vectors.names
    with pytest.raises(ValueError, match="read-only"):
        names[0, 0] = 1


def test_a_memory_is_read_without_lance(built):
    code = (
        "import sys; from memory import Memory; memory = Memory.open(sys.argv[1]); memory.info(); "
        "list(memory.bare_categories()); memory.index(); assert memory.vectors.names.any(); "
        "print([name for name in ('lancedb', 'lance', 'pandas', 'torch', 'pyarrow.compute') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(built)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_damaged_card_or_texts_are_not_used(built):
    expected = from_tables(built)
    for path in (built / FLAT_FOLDER / "FLAT.json", copy_file(built, "categories", "arrow")):
        data = path.read_bytes()
        for place in np.linspace(0, len(data) - 1, 40, dtype=int):
            changed = bytearray(data)
            changed[place] ^= 4
            path.write_bytes(changed)
            assert read_flat(built, read_manifest(built)) is None
        path.write_bytes(data[:-1])
        assert read_flat(built, read_manifest(built)) is None
        path.unlink()
        assert equal_vectors(Memory.open(built).vectors, expected)
        path.write_bytes(data)
    manifest = read_manifest(built)
    assert read_flat(built, manifest) is not None
    table = replace(manifest.tables["categories"], version=7)
    assert read_flat(built, replace(manifest, tables={**manifest.tables, "categories": table})) is None


@pytest.mark.parametrize("change", ["flipped", "short"])
def test_damaged_vectors_are_found_when_they_are_read_and_repaired(built, change, monkeypatch):
    before = exported(Memory.open(built))
    path = copy_file(built, "descriptions", "grounded")
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data if change == "flipped" else data[:-1])
    assert check_flat(built, read_manifest(built))
    assert {f.check for f in Memory.open(built).verify() if not f.ok} == {"flat copy"}
    assert exported(Memory.open(built)) == before  # a small memory is read from the tables
    monkeypatch.setattr("memory.columns.LOADED_BYTES", 0)
    if change == "flipped":
        vectors = Memory.open(built).vectors
        assert vectors.names[:].any()
        with pytest.raises(MemoryDamaged, match=r"block 0 of .*grounded.*recognizer repair"):
            vectors.grounded[:1]
    [said] = [line for line in Memory.repair(built) if "flat" in line]
    assert said.startswith("wrote the flat copy again from the tables: ")
    assert exported(Memory.open(built)) == before
    assert all(finding.ok for finding in Memory.open(built).verify())


def test_other_rows_than_those_of_the_tables_are_found(built, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("memory.flat.writer.halves_of", lambda column: np.zeros((len(column), 16), np.float16))
        write_flat(built, read_manifest(built))
    failed = {finding.check: finding.message for finding in Memory.open(built).verify() if not finding.ok}
    assert "other rows than the table 'categories'" in failed["flat copy"]


def test_names_are_read_without_the_files_of_other_tables(built):
    copy_file(built, "descriptions", "arrow").write_bytes(b"")
    manifest = read_manifest(built)
    assert read_flat(built, manifest) is None
    assert read_flat(built, manifest, ("categories",)) is not None
    expected = [category.name for category in Memory.open(built).vectors.categories]
    assert [category.name for category in Memory.open(built).bare_categories()] == expected


def test_an_edit_appends_and_dead_rows_are_cleared_away_when_they_are_many(directory, encoder):
    build([Category(f"thing {n}", descriptions=(Description(f"d{n}"),)) for n in range(40)], directory, encoder)
    memory, path = Memory.open(directory), copy_file(directory, "descriptions", "bare")
    before = path.read_bytes()
    memory.add([Category("new", descriptions=(Description("fresh"),))], encoder=encoder)
    assert path.read_bytes()[: len(before)] == before
    assert len(path.read_bytes()) == len(before) + 32
    for number in range(4):
        memory.remove([f"thing {number}"])
    assert len(path.read_bytes()) == len(before) + 32
    memory.remove(["thing 9"])  # the fifth of 41
    memory.remove(["thing 10"])  # the files of the version before stay for its readers
    assert not path.exists()
    assert len(copy_file(directory, "descriptions", "bare").read_bytes()) == 36 * 32
    assert equal_vectors(memory.vectors, from_tables(directory))
    assert all(finding.ok for finding in memory.verify())


def test_a_reader_of_the_version_before_still_has_its_copy(built, encoder):
    manifest = read_manifest(built)
    expected = from_tables(built)
    Memory.open(built).add([Category("emu")], encoder=encoder)
    flat = read_flat(built, manifest)
    assert flat is not None
    assert equal_vectors(flat.vectors(), expected)


def test_a_full_disk_leaves_no_copy_and_a_memory_that_opens(categories, directory, encoder, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memory.flat.writer.BlockWriter.finish", full)
    build(categories, directory, encoder)
    monkeypatch.undo()
    assert not (directory / FLAT_FOLDER).exists()
    assert equal_vectors(Memory.open(directory).vectors, from_tables(directory))
    Memory.open(directory).add([Category("emu")], encoder=encoder)
    assert read_flat(directory, read_manifest(directory)) is not None
    assert equal_vectors(Memory.open(directory).vectors, from_tables(directory))


NAMES = [f"thing {n}" for n in range(6)]
CATEGORIES = st.lists(
    st.builds(
        lambda name, texts: Category(name, descriptions=tuple(map(Description, texts))),
        st.sampled_from(NAMES),
        st.lists(st.sampled_from("abc"), unique=True, max_size=3),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda category: category.name,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("build"), CATEGORIES),
        st.tuples(st.just("add"), CATEGORIES),
        st.tuples(st.just("remove"), st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=2)),
    ),
    min_size=1,
    max_size=5,
)


@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(CATEGORIES, STEPS, st.sampled_from([0, 2**30]))
def test_any_edits_give_what_one_build_of_the_final_labels_gives(tmp_path_factory, first, steps, loaded_bytes):
    directory, encoder = tmp_path_factory.mktemp("memory"), FakeEncoder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memory.columns.LOADED_BYTES", loaded_bytes)
        memory = build(first, directory / "edited", encoder)
        for kind, value in steps:
            present = {category.name for category in memory.vectors.categories}
            if kind == "build":
                memory = build(value, directory / "edited", encoder)
            elif kind == "add":
                memory.add(value, encoder=encoder)
            else:
                memory.remove([name for name in value if name in present])
        final = list(memory.vectors.categories)
        assert equal_vectors(memory.vectors, from_tables(directory / "edited"))
        if final:
            fresh = build(final, directory / "fresh", FakeEncoder())
            assert exported(memory) == exported(fresh)
            assert build(final, directory / "edited", encoder).report.unchanged
