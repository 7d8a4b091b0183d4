from dataclasses import replace

from memory import Memory
from memory.manifest import read_manifest
from memory.verify import verify_memory
from tests.memory.building import build


def test_an_open_memory_verifies_its_files_again(built):
    memory = Memory.open(built)
    path = next(built.glob("categories.lance/data/*.lance"))
    path.write_bytes(path.read_bytes()[:-1])
    findings = {finding.check: finding for finding in memory.verify()}
    assert not findings["files"].ok
    assert "bytes instead of" in findings["files"].message


def failed(directory, vectors, **changes):
    manifest = replace(read_manifest(directory), **changes)
    findings = {f.check: f.message for f in verify_memory(directory, manifest, vectors) if not f.ok}
    findings.pop("flat copy", None)  # it has the rows of the tables, not these
    return findings


def test_each_check_finds_its_own_fault(built):
    vectors = Memory.open(built).vectors
    assert failed(built, vectors) == {}
    first = vectors.categories[0]
    assert failed(built, replace(vectors, names=vectors.names[1:]))["counts"] == "2 categories instead of 3"
    assert failed(built, replace(vectors, bare=vectors.bare[:, 1:]))["dimensions"] == "bare descriptions have 15"
    assert failed(built, replace(vectors, exemplars=2 * vectors.exemplars)) == {
        "unit norms": "not of unit length: 3 exemplars"
    }
    doubled = failed(built, replace(vectors, categories=[first, *vectors.categories[:2]]))
    assert doubled["distinct ids"] == "1 categories are in it twice"
    assert doubled["orphan rows"].startswith("rows of ")
    encoder = replace(read_manifest(built).encoder)
    object.__setattr__(encoder, "fingerprint", "short")
    assert failed(built, vectors, encoder=encoder) == {"fingerprint": "not well-formed"}


def test_a_missing_index_is_found(categories, directory, encoder):
    memory = build(categories, directory, encoder, index="hnsw")
    assert all(finding.ok for finding in memory.verify())
    (directory / "index" / "INDEX.json").unlink()
    assert failed(directory, memory.vectors).keys() == {"index"}
