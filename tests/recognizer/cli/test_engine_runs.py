"""Options that do not go with Ray are refused before anything is started; what actors do is tested beside them."""

import warnings
from dataclasses import replace

import pyarrow as pa
import pytest

from memory import Memory
from recognizer.cli.app import show_warning
from recognizer.encoder import Encoder
from recognizer.encoder.passes import SmallerBatch
from recognizer.errors import RecognizerError
from recognizer.images import list_images
from recognizer.memory_settings import carried_settings
from recognizer.results import ErrorRow
from recognizer.results.shards import NUMBER, ShardWriter
from recognizer.results.tables import arrow_table
from recognizer.run import run_setup
from recognizer.settings import load_settings
from tests.recognizer.commands import call


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "rows.csv"], "writes a folder of Parquet files; give a folder as --output, not rows.csv"),
        (["--output", "day.1", "--boxes", "auto"], "--boxes does not go"),  # a folder, for no format has this suffix
        (["--output", "-"], "give a folder as --output, not -"),
        (["--output", "rows", "--format", "csv"], "leave --format csv out"),
        (["--output", "rows", "--boxes", "auto"], "--boxes does not go with --engine ray"),
        (["--output", "rows", "--features", "f"], "--features does not go with --engine ray"),
        (["--output", "rows", "--pictures", "p"], "--pictures does not go with --engine ray"),
        (["--output", "rows", "--rerank", "always"], "rerank is 'always', which does not go with --engine ray"),
    ],
)
def test_run_refuses_what_does_not_go_with_ray(demo_memory, photos, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecognizerError, match=message):
        call("run", photos, "--memory", demo_memory, "--engine", "ray", *options)
    assert list(tmp_path.iterdir()) == []


def begin_run(output, directory, photos):
    """Write the first row of a run on Ray that was interrupted."""
    memory, listing = Memory.open(directory), list_images([photos])
    setup = run_setup(memory, load_settings(base=carried_settings(memory)), listing, device="cpu", precision="fp32")
    with ShardWriter(output, listing.keys, setup, warn=print) as writer:
        row = ErrorRow(path=listing.keys[0], code="E_EMPTY", reason="no bytes").to_dict()
        writer.write(arrow_table([row]).append_column(NUMBER, pa.array([0], pa.int64())))


@pytest.mark.parametrize("change", ["top_k", "encoder", "rows"])
def test_a_run_that_cannot_be_continued_is_refused_before_ray_starts(
    demo_memory, photos, tmp_path, monkeypatch, change, starter
):
    begin_run(tmp_path / "rows", demo_memory, photos)
    monkeypatch.setattr("recognizer.engine.cluster.connected", lambda _: pytest.fail("Ray is started"))
    monkeypatch.setattr(Encoder, "from_spec", lambda *_, **__: starter)
    options = []
    if change == "top_k":
        options, message = ["--top-k", "2"], "run.top_k: was 5, is 2"
    elif change == "encoder":
        monkeypatch.setattr(starter, "card", replace(starter.card, fingerprint="0" * 64))
        message = "this memory was made by the encoder"
    else:
        (tmp_path / "rows" / "_run.json").unlink()
        message = "holds rows without a _run.json"
    with pytest.raises(Exception, match=message):
        call("run", photos, "--memory", demo_memory, "--engine", "ray", "--output", tmp_path / "rows", *options)


def test_a_cluster_may_have_the_device_that_this_machine_lacks(demo_memory, photos, tmp_path, monkeypatch, starter):
    def joined(address):
        raise RecognizerError(f"joined {address}")

    monkeypatch.setattr("recognizer.engine.cluster.connected", joined)
    monkeypatch.setattr(Encoder, "from_spec", lambda *_, **__: starter)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    command = ["run", photos, "--memory", demo_memory, "--engine", "ray", "--device", "cuda"]
    with pytest.raises(RecognizerError, match="joined host:6379"):
        call(*command, "--output", tmp_path / "rows", "--ray-address", "host:6379")
    with pytest.raises(RecognizerError, match="'cuda' does not exist here"):  # Ray would be started on this machine
        call(*command, "--output", tmp_path / "rows")
    begin_run(tmp_path / "earlier", demo_memory, photos)
    with pytest.raises(RecognizerError, match="device: was 'cpu', is 'cuda'"):
        call(*command, "--output", tmp_path / "earlier", "--ray-address", "host:6379")


@pytest.mark.parametrize(
    "command",
    [
        ["run", "PHOTOS", "--memory", "m", "--output", "o.csv"],
        ["embed", "PHOTOS", "--features", "f"],
        ["describe", "labels.csv", "--output", "d.json"],
        ["annotate", "PHOTOS", "--output", "a.jsonl"],
    ],
    ids=lambda command: command[0],
)
def test_an_address_without_the_engine_and_an_engine_that_is_not_installed_are_refused(command, photos, monkeypatch):
    arguments = [photos if one == "PHOTOS" else one for one in command]
    with pytest.raises(RecognizerError, match="--ray-address names a cluster of Ray; give --engine ray with it"):
        call(*arguments, "--ray-address", "host:6379")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(RecognizerError, match=r'pip install "recognizer\[ray\]"'):
        call(*arguments, "--engine", "ray")


def test_wordnet_needs_no_engine(tmp_path):
    (tmp_path / "labels.csv").write_text("name\nred fox\n")
    with pytest.raises(RecognizerError, match="--source wordnet asks no language model; leave --engine ray out"):
        call("describe", tmp_path / "labels.csv", "--output", tmp_path / "d.json", "--engine", "ray")


def test_a_warning_of_this_project_is_one_line_and_one_of_a_library_is_as_python_shows_it(capsys):
    show_warning(SmallerBatch("half as many"), SmallerBatch, "passes.py", 1)
    assert capsys.readouterr().err == "WARNING: half as many\n"
    show_warning(UserWarning("some text"), UserWarning, "nowhere.py", 1)
    assert capsys.readouterr().err == warnings.formatwarning(UserWarning("some text"), UserWarning, "nowhere.py", 1)
