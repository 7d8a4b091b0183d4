"""A build from the same files does nothing and loads nothing; any other compares."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from memory import Category, Memory
from memory.manifest import MANIFEST_NAME
from recognizer.cli import memory_commands
from recognizer.unchanged import RECORD_NAME, input_hash, remember_build, unchanged_memory
from tests.memory.building import build, exemplar_set
from tests.memory.fake_encoder import FakeEncoder
from tests.recognizer.commands import call

ANIMALS = [Category("cat"), Category("dog")]
STARTER = {"kind": "starter"}


def built(folder, spec=STARTER, categories=ANIMALS, dim=16, **options):
    encoder = FakeEncoder(dim=dim)
    encoder.card = replace(encoder.card, spec=spec)
    return build(categories, folder, encoder, **options)


def is_known(folder, inputs="one"):
    return unchanged_memory(folder, inputs) is not None


@pytest.fixture
def folder(tmp_path):
    """A memory whose build is recorded."""
    remember_build(built(tmp_path / "memory"), "one")
    return tmp_path / "memory"


def test_a_build_is_known_by_its_inputs(folder):
    assert unchanged_memory(folder, "one").digest == Memory.open(folder).digest
    assert not is_known(folder, "two")
    assert not is_known(folder, None)
    assert not is_known(folder.with_name("other"))


def test_a_build_without_a_hash_leaves_no_record(tmp_path):
    remember_build(built(tmp_path / "memory"), None)
    assert not (tmp_path / "memory" / RECORD_NAME).exists()


@pytest.mark.parametrize(
    "edit",
    [
        lambda memory: memory.add([Category("bird")], encoder=FakeEncoder()),
        lambda memory: memory.remove(["cat"]),
        lambda memory: memory.replace_exemplars(exemplar_set(ANIMALS, 2)),
        lambda memory: memory.store_settings({"rerank": "always"}),
        lambda memory: built(memory.directory, index="hnsw"),
    ],
)
def test_an_edit_is_seen_even_where_it_is_undone(folder, edit):
    edit(Memory.open(folder))
    assert not is_known(folder)
    remember_build(build([*ANIMALS, Category("fox")], folder, FakeEncoder()), "two")  # its spec is not known
    assert not is_known(folder, "two")
    built(folder, settings={})
    assert not is_known(folder)


@pytest.mark.parametrize("pattern", ["categories.lance/data/*", "flat/categories.*.arrow", RECORD_NAME])
def test_a_damaged_file_is_seen(folder, pattern):
    (path,) = folder.glob(pattern)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert not is_known(folder)


def test_a_large_table_is_read_whole(tmp_path):
    """Opening a memory does not: it would take seconds."""
    things = [Category(f"thing {number}") for number in range(600)]
    remember_build(built(tmp_path, categories=things, dim=4096), "one")
    path = max(tmp_path.glob("categories.lance/data/*"), key=lambda each: each.stat().st_size)
    data = bytearray(path.read_bytes())
    assert len(data) > 4 * 2**20
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    Memory.open(tmp_path)
    assert not is_known(tmp_path)


def test_a_repair_that_changes_nothing_keeps_the_record(folder):
    Memory.repair(folder)
    assert is_known(folder)
    (folder / MANIFEST_NAME).unlink()  # its copy says the same
    assert is_known(folder)


def test_an_approximate_index_must_be_whole(tmp_path):
    memory = built(tmp_path, index="hnsw")
    memory.index()
    remember_build(memory, "one")
    assert is_known(tmp_path)
    shutil.rmtree(tmp_path / "index")
    assert not is_known(tmp_path)


def test_a_memory_that_another_program_has_changed_meanwhile_is_not_recorded(tmp_path):
    memory = built(tmp_path)
    Memory.open(tmp_path).remove(["cat"])
    remember_build(memory, "one")
    assert not is_known(tmp_path)


def test_weights_of_another_size_or_time_are_seen(tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"weights")
    spec = {"kind": "open_clip", "model": "ViT-B-32", "pretrained": str(weights)}
    remember_build(built(tmp_path / "memory", spec), "one")
    assert is_known(tmp_path / "memory")
    status = weights.stat()
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert not is_known(tmp_path / "memory")
    weights.unlink()
    assert not is_known(tmp_path / "memory")
    remember_build(built(tmp_path / "memory", spec), "two")  # no error
    assert not is_known(tmp_path / "memory", "two")


@pytest.mark.parametrize(
    ("spec", "known"),
    [
        ({"kind": "open_clip", "model": "ViT-B-32", "pretrained": "openai"}, True),
        ({"kind": "open_clip", "model": "hf-hub:owner/name", "pretrained": None}, False),
        ({"kind": "open_clip", "model": "local-dir:folder", "pretrained": None}, False),
        ({"kind": "new"}, False),
    ],
)
def test_only_weights_that_can_be_known_are_recorded(tmp_path, spec, known):
    remember_build(built(tmp_path, spec), "one")
    assert is_known(tmp_path) is known


def test_a_hash_is_over_contents_and_names_in_order_and_options(tmp_path):
    one, two, copy = tmp_path / "one.txt", tmp_path / "two.txt", tmp_path / "folder" / "one.txt"
    copy.parent.mkdir()
    one.write_text("cat")
    copy.write_text("cat")
    two.write_text("cat")
    calls = [([one], {}), ([two], {}), ([one, None], {}), ([one, two], {}), ([two, one], {}), ([one], {"key": "name"})]
    hashes = [input_hash(*call) for call in calls]
    assert len({*hashes}) == len(calls)
    assert input_hash([copy], {}) == hashes[0]
    one.write_text("cats")
    assert input_hash([one], {}) not in hashes


def test_a_hash_changes_with_the_release(tmp_path, monkeypatch):
    (tmp_path / "one.txt").write_text("cat")
    before = input_hash([tmp_path / "one.txt"], {})
    monkeypatch.setattr("recognizer.__version__", "0.0.0", raising=False)
    assert input_hash([tmp_path / "one.txt"], {}) != before


def test_folders_and_pipes_have_no_hash(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert input_hash([tmp_path], {}) is None
    assert input_hash([tmp_path / "pipe"], {}) is None
    assert input_hash([tmp_path / "missing"], {}) is None


@pytest.fixture(scope="module")
def world(tmp_path_factory, encoders_loaded_once):
    """Files, and a memory that the command has built from them."""
    root = tmp_path_factory.mktemp("unchanged")
    (root / "labels.csv").write_text("name\ntabby cat\nsnowy owl\n")
    (root / "more.json").write_text('{"tabby cat": ["striped fur"]}')
    (root / "templates.txt").write_text("a photo of a {}.\n")
    assert "texts: " in call(*command(root))[1]
    return root


@pytest.fixture
def copied(world, tmp_path):
    return shutil.copytree(world, tmp_path / "world")


def command(root, *more):
    files = ("--descriptions", root / "more.json", "--templates", root / "templates.txt")
    return ["build", root / "labels.csv", "--memory", root / "memory", *files, *more]


class Parsed(Exception):
    pass


@pytest.fixture
def stop(monkeypatch):
    """Let a build stop where it would parse the labels."""

    def parse(*_arguments):
        raise Parsed

    monkeypatch.setattr(memory_commands, "read_label_file", parse)


def test_the_command_does_nothing_without_torch(world):
    code = "import sys; from recognizer.cli import app; app(sys.argv[1:], standalone_mode=False); "
    code += "assert not {'torch', 'lancedb', 'faiss'} & set(sys.modules)"
    arguments = [sys.executable, "-c", code, *map(str, command(world))]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=60)
    begin = f"{world / 'memory'}: 2 categories, 1 description; nothing to do, the memory holds all of this; "
    assert done.stdout.startswith(begin)


def test_the_command_says_the_same_as_a_build_that_compares(copied):
    quick = call(*command(copied))[1]
    (copied / "memory" / RECORD_NAME).unlink()
    thorough = call(*command(copied))[1]
    assert quick.rsplit(";", 1)[0] == thorough.rsplit(";", 1)[0]
    assert (copied / "memory" / RECORD_NAME).exists()


@pytest.mark.parametrize(
    "more",
    [
        ("--format", "csv"),
        ("--key", "name,group"),
        ("--header", "yes"),
        ("--name-column", "name"),
        ("--aliases", "comma"),
        ("--model", "starter"),
        ("--pretrained", "grounded"),
        ("--index", "exact"),
        ("--hierarchy", "wordnet"),
        ("--fine-grained",),
        ("--unknown", "negatives"),
        ("--device", "cpu"),
        ("--precision", "bf16"),
        ("--descriptions", "labels.csv"),
        ("--exemplars", "."),
    ],
)
@pytest.mark.usefixtures("stop")
def test_another_option_compares(world, more, monkeypatch):
    monkeypatch.chdir(world)
    with pytest.raises(Parsed):
        call(*command(world, *more))


@pytest.mark.parametrize("name", ["labels.csv", "more.json", "templates.txt"])
@pytest.mark.usefixtures("stop")
def test_a_changed_file_compares(copied, name):
    call(*command(copied))
    with (copied / name).open("a") as file:
        file.write("\n")
    with pytest.raises(Parsed):
        call(*command(copied))


def test_an_encoder_that_is_named_is_known_in_the_same_working_directory(copied, monkeypatch, request):
    named = command(copied, "--model", "starter")
    call(*named)
    request.getfixturevalue("stop")
    call(*named)
    monkeypatch.chdir(copied)
    with pytest.raises(Parsed):
        call(*named)


def test_edits_in_between_are_undone(copied):
    call("remove", "snowy owl", "--memory", copied / "memory")
    out = call(*command(copied))[1]
    assert "2 categories" in out
    assert "texts: 1 encoded" in out


def test_a_folder_of_images_is_not_recorded(photos, tmp_path, encoders_loaded_once):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    shutil.copy(photos / "cat.jpg", tmp_path / "images" / "cat")
    out = call("build", tmp_path / "images", "--memory", tmp_path / "memory", "--model", "starter")[1]
    assert "1 exemplar" in out
    assert not (tmp_path / "memory" / RECORD_NAME).exists()
