import os
import shutil
import threading
from pathlib import Path

import pytest

from memory import Memory
from memory.durable import file_sha256
from recognizer.images import list_images
from recognizer.recognizer import Recognizer
from recognizer.results import ErrorRow, ResultRow
from recognizer.run import recognize_into, run_setup
from recognizer.settings import load_settings


class Sink:
    """Wants four of eight images, as a resumed run may."""

    todo = (2, 3, 6, 7)

    def __init__(self):
        self.written = []
        self.images = []
        self.timings = []

    def write(self, rows, *, timing, images):
        self.written.append(rows)
        self.images += images
        self.timings.append(timing)


@pytest.fixture
def listing(tmp_path, photos):
    for number in range(8):
        shutil.copy(photos / ("cat.jpg" if number % 2 else "coffee.jpg"), tmp_path / f"{number}.jpg")
    (tmp_path / "2.jpg").write_bytes(b"no picture")
    return list_images(tmp_path)


def test_only_images_to_do_are_recognised_and_written_in_batches(demo_recognizer, listing):
    sink = Sink()
    settings = load_settings(overrides=["run.batch_size=3"])
    recognizer = Recognizer(demo_recognizer.encoder, demo_recognizer.memory, settings=settings)
    yielded = list(recognize_into(recognizer, listing, sink))
    assert yielded == sink.written
    assert [[row.path for row in rows] for rows in yielded] == [["2.jpg", "3.jpg", "6.jpg"], ["7.jpg"]]
    assert [[type(row) for row in rows] for rows in yielded] == [[ErrorRow, ResultRow, ResultRow], [ResultRow]]
    assert yielded[0][0].code == "E_NOT_IMAGE"
    assert [row.label for row in (*yielded[0][1:], *yielded[1])] == ["tabby cat", "cup of coffee", "tabby cat"]
    paths = [item.path for item in listing[2:4] + listing[6:8]]
    assert [(stamp.size, stamp.mtime_ns) for stamp in sink.images] == [
        (os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in paths
    ]
    assert [stamp.sha256 for stamp in sink.images] == [None, *(file_sha256(path) for path in paths[1:])]
    assert all(min(timing.decode_s, timing.encode_s, timing.score_s) > 0 for timing in sink.timings)


def test_a_run_that_is_left_ends_its_threads(demo_recognizer, listing):
    settings = load_settings(overrides=["run.batch_size=1"])
    recognizer = Recognizer(demo_recognizer.encoder, demo_recognizer.memory, settings=settings)
    before = set(threading.enumerate())
    batches = recognize_into(recognizer, listing, Sink())
    assert next(batches)[0].path == "2.jpg"
    batches.close()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("score")]


def test_settings_that_do_not_change_a_row_do_not_bind_a_resumed_run(demo_recognizer, listing):
    def setup(**run):
        settings = demo_recognizer.settings
        settings = settings.model_copy(update={"run": settings.run.model_copy(update=run)})
        return run_setup(demo_recognizer.memory, settings, listing, device="cpu", precision="fp32")

    assert setup(workers=1).settings == setup(workers=3, max_failed=0.1).settings
    assert setup(top_k=1).settings != setup(top_k=3).settings
    assert setup().settings["input_root"] == setup().input_root
    assert (setup().settings["precision"], setup().device) == ("fp32", "cpu")


def test_a_memory_is_known_by_its_digest_and_its_index(demo_recognizer, listing):
    def memory(index):
        settings = demo_recognizer.settings
        settings = settings.model_copy(update={"run": settings.run.model_copy(update={"index": index})})
        return run_setup(demo_recognizer.memory, settings, listing, device="cpu", precision="fp32").memory

    assert memory("auto")["digest"] == demo_recognizer.memory.digest
    assert (memory("auto")["index"], memory("hnsw")["index"]) == ("exact", "hnsw")


def test_the_path_of_the_memory_is_found_from_any_folder(demo_memory, listing, monkeypatch):
    monkeypatch.chdir(demo_memory.parent)
    memory = Memory.open(demo_memory.name)
    setup = run_setup(memory, load_settings(), listing, device="cpu", precision="fp32")
    assert setup.memory["path"] == str(Path.cwd() / demo_memory.name)
