"""The engine on Ray: its parts without Ray, and runs on a real one, which takes seconds to start."""

import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from memory import Memory
from recognizer.encoder import Encoder
from recognizer.encoder.passes import SmallerBatch
from recognizer.engine.cluster import EngineError, algebra_threads, connected, engine_error, plan_workers, require_ray
from recognizer.engine.decoding import Decoding, item_table
from recognizer.engine.run import encode_into_store, memory_encoder, opened_engine, recognize_into_shards
from recognizer.engine.stages import SAID, EncoderOptions, Encoding, Recognizing
from recognizer.engine.stream import OnBatches, in_one_row, out_of_one_row, results
from recognizer.features import FeatureStore
from recognizer.features.stored_image import StoredFailure, from_table
from recognizer.images import ImageLimits, list_images
from recognizer.memory_settings import carried_settings
from recognizer.recognizer import Recognizer
from recognizer.results import open_results
from recognizer.results.shards import NUMBER, ShardWriter
from recognizer.run import recognize_into, run_setup
from recognizer.settings import load_settings

BY_PATH = [("path", "ascending"), ("rank", "ascending")]


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    """Photographs and what is none: an empty file, a text, half an image."""
    folder = tmp_path_factory.mktemp("images")
    for photo in sorted(photos.glob("*.jpg"))[:6]:
        (folder / photo.name).write_bytes(photo.read_bytes())
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no image")
    cat = (photos / "cat.jpg").read_bytes()
    (folder / "half.jpg").write_bytes(cat[: len(cat) // 2])
    return folder


@pytest.fixture(scope="module")
def work(demo_memory, folder):
    """Memory, settings and listing of a run in blocks of two images."""
    memory = Memory.open(demo_memory)
    return memory, load_settings(overrides=["run.batch_size=2"], base=carried_settings(memory)), list_images([folder])


@pytest.fixture(scope="module")
def of_one_process(work, demo_recognizer, tmp_path_factory):
    return written_by_one_process(demo_recognizer, work, tmp_path_factory.mktemp("one"))


def written_by_one_process(recognizer, work, folder):
    """The table that a run in one process writes."""
    memory, settings, listing = work
    output = folder / "rows.parquet"
    setup = run_setup(memory, settings, listing, device=recognizer.encoder.device.type, precision="fp32")
    with open_results(output, keys=listing.keys, setup=setup) as sink:
        for _ in recognize_into(recognizer, listing, sink):
            pass
        sink.finish()
    return pq.read_table(output).sort_by(BY_PATH)


def written_on_ray(work, folder, device):
    """The table of a run on Ray, and its counts."""
    memory, settings, listing = work
    with opened_engine(None, *memory_encoder(memory), device=device, precision="fp32") as engine:
        setup = engine.setup(run_setup(memory, settings, listing, device=device, precision="fp32"))
        assert setup.settings["device"] == device
        with ShardWriter(folder / "rows", listing.keys, setup, warn=print) as writer:
            for _ in recognize_into_shards(engine, memory, settings, listing, writer, warn=print):
                pass
            writer.finish()
    return pq.read_table(folder / "rows").sort_by(BY_PATH)


def plan(nodes, *, gpus=False):
    found = plan_workers(nodes, gpus=gpus)
    taken = found.encoders * found.encoder_cpus + found.decoders * found.decoder_cpus
    assert taken <= sum(node["CPU"] for node in nodes) + 1e-9  # all of them start at once
    return found


@pytest.mark.parametrize(
    ("cpus", "encoders", "threads", "decoders"),
    [([1], 1, 1, 1), ([2], 2, 1, 2), ([8], 2, 4, 8), ([64], 16, 4, 64), ([2] * 8, 16, 1, 16), ([16, 4, 0], 10, 2, 20)],
)
def test_processors_are_divided_among_the_actors_of_each_machine(cpus, encoders, threads, decoders):
    found = plan([{"CPU": cpu} for cpu in cpus])
    assert (found.encoders, found.encoder_threads, found.decoders) == (encoders, threads, decoders)
    assert found.encoder_gpus == 0


@pytest.mark.parametrize(
    ("nodes", "encoders", "decoders"),
    [([(16, 1)], 1, 15), ([(16, 8)], 8, 8), ([(4, 8)], 8, 2), ([(16, 4), (32, 0)], 4, 44), ([(1, 1)], 1, 1)],
)
def test_each_gpu_has_one_encoder_and_the_processors_decode(nodes, encoders, decoders):
    found = plan([{"CPU": cpu, "GPU": gpu} for cpu, gpu in nodes], gpus=True)
    assert (found.encoders, found.encoder_gpus, found.decoders) == (encoders, 1, decoders)


def test_a_cluster_that_cannot_do_the_work_is_refused():
    with pytest.raises(EngineError, match="no processors"):
        plan_workers([{"GPU": 1}], gpus=True)
    with pytest.raises(EngineError, match="no GPU; give --device cpu"):
        plan_workers([{"CPU": 4}], gpus=True)


def test_without_ray_one_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r'needs Ray, which is not installed: pip install "recognizer\[ray\]"$'):
        require_ray()


def test_actors_have_as_many_threads_of_algebra_as_this_process(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert algebra_threads() == 3
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    assert algebra_threads() == 5
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "0")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert algebra_threads() == len(psutil.Process().cpu_affinity())


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:99999"])
def test_an_address_where_no_cluster_answers_is_named(address):
    with pytest.raises(EngineError, match=f"no Ray cluster answers at {address}"), connected(address):
        pass


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "\x1b[36mray::MapWorker(MapBatches(Decoding)).submit()\x1b[39m (pid=8)\n  File x, line 1\n    a: int\n"
            "KeyError: 'a'\n\nThe above exception was the direct cause of the following exception:\n\n"
            "memory.errors.MemoryCorrupt: the memory is damaged\nray.exceptions.UserCodeException: UDF failed.\n",
            "MemoryCorrupt: the memory is damaged",
        ),
        ("The actor died because of an error in its creation task, ray::A\nValueError: bad\nmore\n", "ValueError: bad"),
        ("\nThe object was lost.\n", "The object was lost."),
        ("", "Ray gives no reason"),
    ],
)
def test_an_error_of_an_actor_is_what_it_raised_without_tracebacks(text, sentence):
    assert str(engine_error(RuntimeError(text))) == f"the work on Ray failed: {sentence}"


@pytest.fixture
def loaded(starter, monkeypatch):
    """Actors in this process: they take the encoder that is loaded already."""
    monkeypatch.setattr(Encoder, "from_spec", lambda *_, **__: starter)
    return EncoderOptions(dict(starter.card.spec), "cpu", "fp32", torch.get_num_threads())


def test_the_actors_make_the_rows_of_one_process(work, of_one_process, loaded, starter):
    memory, settings, listing = work
    decoding = Decoding(settings.images, starter.fit)
    recognizing = Recognizing(str(memory.info().directory), loaded, settings, None, None)
    parts = []
    for start in range(0, len(listing), 4):
        numbers = range(start, min(start + 4, len(listing)))
        part = recognizing(decoding(item_table(numbers, listing[start : start + 4])))
        assert set(part[SAID].to_pylist()) == {""}
        assert sorted(set(part[NUMBER].to_pylist())) == list(numbers)
        for number in numbers:
            of_image = part.filter(np.asarray(part[NUMBER]) == number)
            assert set(of_image["path"].to_pylist()) == {listing[number].key}
        parts.append(part.drop_columns([NUMBER, SAID]))
    assert rewritten(pa.concat_tables(parts)).equals(of_one_process)


def rewritten(table):
    """The table as a reader of its Parquet file sees it, sorted."""
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream)
    return pq.read_table(pa.BufferReader(stream.getvalue())).sort_by(BY_PATH)


def test_the_features_of_the_actors_are_those_of_one_process(work, loaded, starter):
    _, settings, listing = work
    table = Encoding(loaded)(Decoding(settings.images, starter.fit)(item_table(range(4), listing[:4])))
    stored = dict(zip(table[NUMBER].to_pylist(), from_table(table.drop_columns([NUMBER, SAID])), strict=True))
    for number, item in enumerate(listing[:4]):
        if item.key in ("empty.jpg", "half.jpg", "text.jpg"):
            assert isinstance(stored[number], StoredFailure)
        else:
            expected = starter.encode_images([os.fsdecode(item.path)]).rounded()
            assert np.array_equal(stored[number].image, expected.image[0].astype(np.float16))


def test_what_the_encoder_warns_of_comes_back_with_the_batch(work, loaded, starter, monkeypatch):
    _, settings, listing = work
    encode = starter.encode_pixels

    def warning(pixels, frames):
        warnings.warn("half as many images at a time", SmallerBatch, stacklevel=1)
        warnings.warn("of some library", stacklevel=1)
        return encode(pixels, frames)

    monkeypatch.setattr(starter, "encode_pixels", warning)
    table = Encoding(loaded)(Decoding(settings.images, starter.fit)(item_table([0], listing[:1])))
    assert table[SAID].to_pylist() == ["half as many images at a time"]


def test_a_batch_stays_whole_in_one_row(work):
    _, settings, listing = work
    decoded = Decoding(settings.images, None)(item_table(range(4), listing[:4]))
    assert in_one_row(decoded).num_rows == 1
    for table in (decoded, decoded.slice(1, 2), decoded.slice(0, 0)):
        assert out_of_one_row(in_one_row(table)).equals(table)
    whole = pa.table({NUMBER: pa.array([0, 1])})
    assert out_of_one_row(OnBatches(Adding, (1,))(in_one_row(whole)))["found"].to_pylist() == [1, 2]


class Adding:
    """An actor without a model."""

    def __init__(self, number, folder=None):
        self._number, self._folder = number, folder

    def __call__(self, table):
        numbers = table[NUMBER].to_pylist()
        if self._folder is not None and 7 in numbers and not os.path.exists(f"{self._folder}/died"):
            open(f"{self._folder}/died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if self._number < 0:
            raise ValueError("no such number")
        found = pa.array([number + self._number for number in numbers])
        return pa.table({NUMBER: table[NUMBER], "found": found, SAID: [f"{self._number}\nthe same"] * len(numbers)})


@pytest.mark.slow
def test_a_block_whose_actor_was_killed_is_done_again_and_errors_are_one_sentence(ray, tmp_path):
    batches = [pa.table({NUMBER: list(range(start, start + 3))}) for start in range(0, 30, 3)]
    workers, said = plan_workers([{"CPU": 2}], gpus=False), []
    found = pa.concat_tables(results(batches, (Adding, (0,)), (Adding, (1, str(tmp_path))), workers, warn=said.append))
    assert (tmp_path / "died").exists()
    assert sorted(found[NUMBER].to_pylist()) == list(range(30))
    assert all(
        number + 1 == one for number, one in zip(*(found[n].to_pylist() for n in (NUMBER, "found")), strict=True)
    )
    assert sorted(said) == ["1", "the same"]
    with pytest.raises(EngineError, match=r"^the work on Ray failed: .*no such number$"):
        list(results(batches, (Adding, (0,)), (Adding, (-1,)), workers, warn=print))


@pytest.mark.slow
def test_an_actor_with_a_gpu_gets_whole_batches():
    """Ray believes in the GPU of this machine, whatever it has."""
    script = """if True:
        import ray, pyarrow as pa
        from recognizer.engine.cluster import plan_workers
        from recognizer.engine.stream import results
        from recognizer.results.shards import NUMBER
        from tests.recognizer.engine.test_engine import Adding
        ray.init(address="local", include_dashboard=False, num_cpus=8, num_gpus=1, log_to_driver=False)
        batches = [pa.table({NUMBER: list(range(start, min(start + 3, 20)))}) for start in range(0, 20, 3)]
        workers = plan_workers([{"CPU": 8, "GPU": 1}], gpus=True)
        tables = list(results(batches, (Adding, (0,)), (Adding, (1,)), workers, warn=lambda _: None))
        print(sorted(table[NUMBER].to_pylist() for table in tables))
    """
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert json.loads(done.stdout) == [list(range(start, min(start + 3, 20))) for start in range(0, 20, 3)]


@pytest.mark.slow
def test_a_run_on_ray_writes_the_rows_of_one_process_also_where_workers_are_killed(ray, work, of_one_process, tmp_path):
    memory, settings, listing = work
    with opened_engine(None, *memory_encoder(memory), device="cpu", precision="fp32") as engine:
        setup = engine.setup(run_setup(memory, settings, listing, device="cpu", precision="fp32"))
        assert setup.settings["device"] == "cpu"
        with ShardWriter(tmp_path / "rows", listing.keys, setup, warn=print) as writer:
            running = recognize_into_shards(engine, memory, settings, listing, writer, warn=print)
            next(running)
            running.close()  # as an interrupt does
        with ShardWriter(tmp_path / "rows", listing.keys, setup, warn=print) as writer:
            assert 0 < len(writer.todo) < len(listing)
            running = recognize_into_shards(engine, memory, settings, listing, writer, warn=print)
            next(running)
            for process in psutil.process_iter(["name"]):
                if process.info["name"].startswith("ray::MapWorker"):
                    process.kill()
            for _ in running:
                pass
            counts = writer.finish()
    assert (counts.ok, counts.failed) == (6, 3)
    assert pq.read_table(tmp_path / "rows").sort_by(BY_PATH).equals(of_one_process)


@pytest.mark.gpu
def test_a_gpu_on_ray_writes_the_rows_of_one_process_on_it(ray, work, cuda, tmp_path):
    memory, settings, _ = work
    here = Recognizer(Encoder.load(device=cuda, precision="fp32"), memory, settings=settings)
    assert written_on_ray(work, tmp_path, cuda).equals(written_by_one_process(here, work, tmp_path))


@pytest.mark.slow
def test_features_that_ray_encoded_are_those_of_one_process(ray, work, starter, tmp_path):
    from recognizer.features import encode_or_read
    from recognizer.pipeline import in_batches

    _, _, listing = work
    with FeatureStore(tmp_path / "one", starter.card, ImageLimits(), warn=print) as store:
        for _ in encode_or_read(starter, in_batches(listing, 2), features=store, limits=ImageLimits()):
            pass
    with opened_engine(None, starter.card, starter.fit, device="cpu", precision="fp32") as engine:
        for again in (False, True):
            with FeatureStore(tmp_path / "ray", engine.card, ImageLimits(), warn=print) as store:
                errors = encode_into_store(engine, ImageLimits(), listing, store, batch_size=2, warn=print)
                codes = sorted(one.code for part in errors for one in part if one is not None)
                assert codes == ["E_EMPTY", "E_NOT_IMAGE", "E_TRUNCATED"]
                assert (store.encoded, store.found) == ((1, 8) if again else (9, 0))  # an empty file may be filled
    tables = []
    for name in ("one", "ray"):
        with FeatureStore(tmp_path / name, starter.card, ImageLimits(), warn=print) as store:
            tables.append(
                {
                    k: one.stored.checksum()
                    for k, one in zip(listing.keys, store.look_up(listing), strict=True)
                    if one.stored
                }
            )
    assert tables[0] == tables[1]
    assert len(tables[0]) == 8
