"""The threshold of the rule by negative labels on the photographs of the demo, and the rows of a run that uses it."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from memory import Memory, NegativeLabels, read_labels
from recognizer import Recognizer
from recognizer.calibration.unlabelled import calibrate_known, write_known
from recognizer.demo import DATA
from recognizer.errors import RecognizerError
from recognizer.images import list_images
from recognizer.memory_settings import carried_settings, read_calibration
from recognizer.reranking.questions import apply_ranking
from recognizer.results import encode_row
from recognizer.results.row import parse_row
from recognizer.settings import ScoreSettings, load_settings
from rerank.base import OK, Ranking
from tests.remembering import remembering

NEGATIVES = NegativeLabels(("tractor", "oboe", "waffle"), lambda _: np.ones(3, bool))


@pytest.fixture(scope="module")
def encoder(starter):
    return remembering(starter)


@pytest.fixture(scope="module")
def built(encoder, tmp_path_factory):
    directory = tmp_path_factory.mktemp("negatives") / "memory"
    labels = read_labels(DATA / "labels.json")
    Memory.build(labels, directory, encoder=encoder, templates=encoder.default_templates, negatives=NEGATIVES)
    return directory


@pytest.fixture
def memory(built, tmp_path):
    return Memory.open(shutil.copytree(built, tmp_path / "memory"))


def recognizer_of(encoder, memory, *overrides):
    settings = load_settings(overrides=overrides, base=carried_settings(memory))
    return Recognizer(encoder, memory, settings=settings)


def test_images_without_labels_give_a_threshold_that_a_run_uses(encoder, memory, photos):
    before = recognizer_of(encoder, memory, "unknown.rate=0.2")
    assert {row.unknown for row in before.recognize_folder(photos, warn=print)} == {None}
    fit = calibrate_known(before, list_images(photos))
    path = write_known(fit, before)
    assert (fit.images, fit.unknown.fitted_for) == (12, 0.2)
    assert read_calibration(memory)["unknown"]["rate"] == 0.2
    after = recognizer_of(encoder, memory)
    rows = list(after.recognize_folder(photos, warn=print))
    assert sum(row.unknown for row in rows) == 1  # place floor(0.2 * 13) = 2, and the one at it is known
    assert {row.known.threshold for row in rows} == {fit.unknown.threshold}
    assert [row.label for row in rows] == [row.label for row in before.recognize_folder(photos, warn=print)]
    assert path.parent == memory.directory
    assert recognizer_of(encoder, memory, "unknown.rate=0.1").negatives.threshold is None
    some = Recognizer(encoder, memory, settings=after.settings, only=np.arange(5))
    assert some.negatives.threshold is None


def test_the_rest_of_an_earlier_calibration_stays(encoder, memory, photos):
    recognizer = recognizer_of(encoder, memory, "unknown.rate=0.2")
    fit = calibrate_known(recognizer, list_images(photos))
    write_known(fit, recognizer)
    fit = replace(fit, unknown=fit.unknown.model_copy(update={"rate": 0.4, "fitted_for": 0.4}))
    write_known(fit, recognizer)
    assert read_calibration(memory)["unknown"]["fitted_for"] == 0.4


def test_too_few_images_and_memories_without_negative_labels_are_refused_before_any_is_encoded(
    encoder, memory, demo_recognizer, photos, monkeypatch
):
    monkeypatch.setattr("recognizer.calibration.unlabelled.encode_labelled", lambda *_, **__: pytest.fail("encoded"))
    with pytest.raises(RecognizerError, match="at least 19 images of the categories; there are 12"):
        calibrate_known(recognizer_of(encoder, memory), list_images(photos))
    with pytest.raises(RecognizerError, match="--unknown negatives"):
        calibrate_known(demo_recognizer, list_images(photos))
    with pytest.raises(RecognizerError, match="--unknown negatives"):
        calibrate_known(recognizer_of(encoder, memory, "unknown.rule=confidence"), list_images(photos))


def test_rows_keep_what_decided_and_reranking_leaves_it(encoder, memory, photos):
    recognizer = recognizer_of(encoder, memory, "unknown.threshold=0.9999")
    [row] = recognizer.recognize([photos / "rocket.jpg"])
    assert row.unknown is True
    content = row.to_dict()
    assert content["known"].keys() == {"score", "threshold", "category", "negative"}
    assert content["known"]["negative"] in NEGATIVES.names
    assert encode_row(parse_row(content)) == encode_row(row)
    order = range(len(row.candidates))
    ranking = Ranking(tuple(order), tuple(1 / len(order) for _ in order), OK)
    assert apply_ranking(row, ranking, "mllm", score=ScoreSettings(), fitted=False).unknown is True
