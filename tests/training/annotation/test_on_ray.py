"""A stage on Ray: its actors without Ray, and whole annotations on a real one, which takes seconds to start."""

import json
import os
import signal
import sqlite3
from contextlib import closing, nullcontext
from functools import partial

import pytest
from PIL import Image

from recognizer.engine.cluster import plan_workers
from recognizer.engine.decoding import Decoding, item_table
from recognizer.engine.stages import SAID
from recognizer.images import ImageItem, ImageLimits
from recognizer.results.shards import NUMBER
from recognizer.settings import RerankSettings
from tests.recognizer.commands import call
from tests.rerank.tiny_mllm.pictures import FILES, MODEL, NAMES, PHOTOS
from tests.training.annotation.scripted import write_pictures
from tests.training.annotation.tiny_detectors import save_owlv2
from training.annotation import on_ray
from training.annotation.annotate import AnnotationSettings, OnRay, annotate, store_path
from training.annotation.detector import DetectStage, open_detect_stage, open_detector
from training.annotation.inputs import read_images
from training.annotation.on_ray import Annotating, compute_on_ray
from training.annotation.stage import CHANGED, Failed, Unusable, Work, look, run_stage
from training.annotation.store import Store
from training.errors import DataError

TEXTS = ["red bird", "a long tail", "bird"]


@pytest.fixture(scope="module")
def owlv2(tmp_path_factory):
    return str(save_owlv2(tmp_path_factory.mktemp("owlv2")))


@pytest.fixture
def pictures(tmp_path):
    """Pictures that differ, a turned photograph of several sizes of a model input, and what is no image."""
    folder = write_pictures(tmp_path / "pictures", 5)
    turned = Image.Exif()
    turned[0x0112] = 6
    gradient = Image.linear_gradient("L").resize((900, 500)).convert("RGB")
    gradient.save(folder / "turned.jpg", exif=turned)
    (folder / "torn.png").write_bytes(b"no picture")
    return folder


def open_stage(owlv2):
    return partial(open_detect_stage, name=owlv2, revision=None, threshold=0.0, batch_size=3)


class InThisProcess:
    """Takes the place of Ray: the batches go through the actors here, the last one first."""

    def __init__(self, monkeypatch):
        self.batches = []
        monkeypatch.setattr(on_ray, "planned", connected_to)
        monkeypatch.setattr(on_ray, "results", self.results)

    def results(self, batches, decoding, encoding, workers, *, warn):
        decode, encode = (kind(*arguments) for kind, arguments in (decoding, encoding))
        for batch in reversed(list(batches)):
            self.batches.append(batch[NUMBER].to_pylist())
            table = encode(decode(batch))
            assert table[SAID].to_pylist() == [""] * len(batch)
            yield table.drop_columns(SAID)


def connected_to(address, device):
    return nullcontext((None, plan_workers([{"CPU": 2}], gpus=False)))


def results_of(pictures, store, owlv2, compute=None):
    """The stored results of a stage of detection by the path of the image, and the work."""
    images = read_images([str(pictures)])
    stage = DetectStage(open_detector(owlv2, device="cpu"), 0.0, lambda *_: TEXTS, 3)
    with Store(store) as opened:
        work = Work(images, opened, workers=1)
        look(work, lambda *_: None)
        options = {} if compute is None else {"compute": compute}
        run_stage(stage, [], work, lambda *_: None, **options)
        found = {
            image.item.key: work.results([stage], image, facts).get("boxes")
            for image in images
            if (facts := work.facts(image.item)) is not None
        }
    return found, work


def test_the_actors_find_the_boxes_of_one_process(pictures, owlv2, tmp_path, monkeypatch):
    here, work = results_of(pictures, tmp_path / "a.sqlite", owlv2)
    actors = InThisProcess(monkeypatch)
    compute = compute_on_ray(None, open_stage(owlv2), device="auto", warn=print)
    there, others = results_of(pictures, tmp_path / "b.sqlite", owlv2, compute)
    assert there == here
    assert len(here) == 6
    assert all(any(of_text) for of_text in here.values())
    assert (others.failures, others.unanswered, others.calls) == (work.failures, {}, {"boxes": 2})
    assert actors.batches == [[3, 4, 5], [0, 1, 2]]
    again, others = results_of(pictures, tmp_path / "b.sqlite", owlv2, compute)
    assert (again, others.calls, len(actors.batches)) == (here, {}, 2)


def test_what_was_computed_is_not_computed_again_by_the_content_of_the_image(pictures, owlv2, tmp_path, monkeypatch):
    actors = InThisProcess(monkeypatch)
    compute = compute_on_ray(None, open_stage(owlv2), device="auto", warn=print)
    here, _ = results_of(pictures, tmp_path / "a.sqlite", owlv2, compute)
    (pictures / "001.png").rename(pictures / "renamed.png")
    (pictures / "torn.png").write_bytes((pictures / "turned.jpg").read_bytes())
    Image.new("RGB", (50, 40), "red").save(pictures / "new.png")
    there, _ = results_of(pictures, tmp_path / "a.sqlite", owlv2, compute)
    assert actors.batches[2:] == [[0]]
    assert there["renamed.png"] == here["001.png"]
    assert there["torn.png"] == here["turned.jpg"]
    assert any(there["new.png"])


def test_images_that_cannot_be_used_and_answers_that_fail_come_back_as_such(pictures, owlv2):
    items = [
        ImageItem(name.encode(), os.fsencode(pictures / name))
        for name in ("torn.png", "000.png", "001.png", "gone.png")
    ]
    table = item_table(range(4), items)
    table = table.append_column("question", [[json.dumps(TEXTS)] * 4]).append_column("looked_at", [["other hash"] * 4])
    decoded = Decoding(ImageLimits(), None, (64, 64))(table)
    stage = open_stage(owlv2)("cpu")
    found = Annotating(lambda _: stage, "cpu", 1, stage.settings)(decoded)
    assert found[NUMBER].to_pylist() == [0, 1, 2, 3]
    assert [on_ray.outcome_of(text) for text in found["outcome"].to_pylist()] == [
        Unusable("E_NOT_IMAGE"),
        Unusable(CHANGED),
        Unusable(CHANGED),
        Unusable("E_NOT_FOUND"),
    ]
    for outcome in (Failed("timeout", is_last=True), Unusable("E_EMPTY"), [[[0.5, 1, 2.25, 3, 0.1234]], []], "text"):
        assert on_ray.outcome_of(on_ray.outcome_text(outcome)) == outcome


def test_another_model_on_another_machine_is_refused(owlv2):
    with pytest.raises(DataError, match=r"the model of the stage 'boxes' is another one on .*; put the same files"):
        Annotating(open_stage(owlv2), "cpu", 1, {"model": "another"})


def annotated(inputs, output, owlv2, *, ray=None, **changes):
    base = {"detector": owlv2, "threshold": 0.0, "detector_batch": 2, "workers": 1, "device": "cpu"}
    return annotate(
        read_images(list(map(str, inputs)), subjects="file"), output, AnnotationSettings(**{**base, **changes}), ray=ray
    )


class Killing:
    """The actor of detection that kills itself once, at the batch of a picture."""

    def __init__(self, owlv2, folder):
        self.owlv2, self.folder = owlv2, folder

    def __call__(self, device):
        stage = open_stage(self.owlv2)(device)
        folder = self.folder

        class Stage(type(stage)):
            def answer(self, questions, prepared):
                if not os.path.exists(f"{folder}/died"):
                    open(f"{folder}/died", "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().answer(questions, prepared)

        return Stage(stage.detector, stage.threshold, stage.phrases, stage.batch_size)


@pytest.mark.slow
def test_a_killed_worker_costs_no_result_and_doubles_none(ray, pictures, owlv2, tmp_path):
    here, work = results_of(pictures, tmp_path / "a.sqlite", owlv2)
    compute = compute_on_ray(None, Killing(owlv2, str(tmp_path)), device="cpu", warn=print)
    seen = []

    def noted(*arguments):
        for batch in compute(*arguments):
            seen.extend(job.item.key for job, _ in batch)
            yield batch

    there, others = results_of(pictures, tmp_path / "b.sqlite", owlv2, noted)
    assert (tmp_path / "died").exists()
    assert sorted(seen) == sorted(here)
    assert (there, others.calls, others.failures) == (here, work.calls, work.failures)


@pytest.mark.slow
def test_an_annotation_on_ray_is_that_of_one_process_also_where_it_is_interrupted(ray, owlv2, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in NAMES[:4]:
        with Image.open(PHOTOS / FILES[name]) as photo:
            photo.convert("RGB").save(photos / f"{name}.png")
    (photos / "torn.png").write_bytes(b"no picture")
    asked = {"mllm": RerankSettings(model=str(MODEL), dtype="float32", image_size=256, device="cpu")}
    one = annotated([photos], tmp_path / "one.jsonl", owlv2, **asked)
    interrupted = annotated([photos], tmp_path / "many.jsonl", owlv2, ray=OnRay(None), **asked)
    assert interrupted.report == one.report
    assert (tmp_path / "many.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    # As if it had been killed before the last image.
    with closing(sqlite3.connect(store_path(tmp_path / "many.jsonl"), isolation_level=None)) as connection:
        (key,) = connection.execute("SELECT key FROM results WHERE value LIKE '[[[%' LIMIT 1").fetchone()
        connection.execute("DELETE FROM results WHERE key = ?", (key,))
    again = annotated([photos], tmp_path / "many.jsonl", owlv2, ray=OnRay(None), **asked)
    assert dict(again.calls) == {"boxes": 1}
    assert (tmp_path / "many.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    arguments = ["annotate", photos, "--subjects", "file", "--detector", owlv2, "--threshold", "0", "--device", "cpu"]
    for name, more in {"here": [], "there": ["--engine", "ray"]}.items():
        assert call(*arguments, "--output", tmp_path / f"{name}.jsonl", *more)[0] == 0
    assert (tmp_path / "here.jsonl").read_bytes() == (tmp_path / "there.jsonl").read_bytes()
