"""The fit of the exemplars beside the tables: read instead of made, and never in place of another one."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from memory import Category, Memory
from recognizer.heads import kernel_ridge
from recognizer.recognizer import Recognizer
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings, Settings
from recognizer.stored_fit import NAME, StoredFit
from tests.memory.building import build, exemplar_set
from tests.memory.fake_encoder import FakeEncoder
from tests.recognizer.worlds import make_features

ANIMALS = [Category(name) for name in ("cat", "dog", "bird", "fox", "owl", "eel")]
SETTINGS = ScoreSettings(head="proker", head_beta=1, head_ridge=0.3)
FEATURES = make_features(np.random.default_rng(0), images=3, dim=16)


@pytest.fixture
def memory(tmp_path):
    return build(ANIMALS, tmp_path / "memory", FakeEncoder(), exemplars=exemplar_set(ANIMALS[:5], 3))


@pytest.fixture
def fits(monkeypatch):
    """How many times a head was fitted."""
    made = []
    inverse = kernel_ridge.inverse_kernel
    monkeypatch.setattr(kernel_ridge, "inverse_kernel", lambda *args: made.append(1) or inverse(*args))
    return made


def scores(memory, settings=SETTINGS, *, stored=True, exclude=()):
    place = StoredFit.of(memory, settings) if stored else None
    return Scorer(memory.vectors, settings, fits=place).score(FEATURES, exclude=exclude).tobytes()


def test_a_second_start_fits_nothing_and_scores_the_same_bytes(memory, fits):
    expected = scores(memory, stored=False)
    assert scores(memory) == expected
    fits.clear()
    assert scores(Memory.open(memory.directory)) == expected
    assert not fits


def test_exemplars_are_left_out_of_a_stored_fit_as_of_a_new_one(memory):
    exclude = [memory.vectors.exemplar_hashes[row] for row in (0, 4, 9)]
    expected = scores(memory, stored=False, exclude=exclude)
    assert scores(memory, exclude=exclude) == expected
    assert scores(memory, exclude=exclude) == expected != scores(memory)


def test_the_whole_fit_is_stored(memory):
    # Three exemplars of one category show another one, so one of them is doubted.
    vectors = exemplar_set(ANIMALS[:5], 3)
    rows = vectors.vectors.copy()
    rows[0], rows[1:3] = rows[4] + 0.01, rows[1] + 0.01 * rows[1:3]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    memory.replace_exemplars(replace(vectors, vectors=rows))
    place = StoredFit.of(memory, SETTINGS)
    head = Scorer(memory.vectors, SETTINGS, fits=place).head
    again = Scorer(memory.vectors, SETTINGS, fits=place).head
    assert place.read() is not None
    assert again.constants == head.constants
    assert again.doubted() == head.doubted() != []
    assert again.disputed() == head.disputed()


@pytest.mark.parametrize("setting", [{"head_beta": 2.0}, {"head_ridge": 0.5}, {"head": "auto"}])
def test_a_fit_under_other_settings_is_made(memory, fits, setting):
    scores(memory)
    fits.clear()
    other = SETTINGS.model_copy(update=setting)
    assert scores(memory, other) == scores(memory, other, stored=False)
    assert len(fits) > 1


def test_an_edit_of_the_memory_makes_another_fit(memory, fits):
    before = scores(memory)
    memory.add([Category("gnu")], encoder=FakeEncoder())
    fits.clear()
    assert scores(memory) == scores(memory, stored=False) != before
    memory.remove(["gnu", "cat"])
    assert scores(memory) == scores(memory, stored=False)


def test_a_fit_of_another_memory_is_not_used(memory, tmp_path):
    other = build(ANIMALS, tmp_path / "other", FakeEncoder(), exemplars=exemplar_set(ANIMALS[:5], 3, seed=1))
    scores(other)
    shutil.copy(other.directory / NAME, memory.directory / NAME)
    assert StoredFit.of(memory, SETTINGS).read() is None
    assert scores(memory) == scores(memory, stored=False)


@pytest.mark.parametrize("kernels", [["openblas Other 1"], []])
def test_a_fit_of_another_processor_is_not_used(memory, monkeypatch, kernels):
    scores(memory)
    monkeypatch.setattr("recognizer.stored_fit.blas_kernels", lambda: kernels)
    assert StoredFit.of(memory, SETTINGS).read() is None


def test_a_fit_is_not_stored_where_the_threads_were_limited_meanwhile(memory, monkeypatch):
    place = StoredFit.of(memory, SETTINGS)
    monkeypatch.setattr("recognizer.stored_fit.blas_kernels", lambda: ["openblas Haswell 99"])
    Scorer(memory.vectors, SETTINGS, fits=place).score(FEATURES)
    assert not place.path.exists()


@pytest.mark.parametrize("place", [0, 0.3, 0.6, 0.99])
def test_a_damaged_file_is_replaced(memory, place):
    expected = scores(memory)
    path = memory.directory / NAME
    intact = path.read_bytes()
    data = bytearray(intact)
    data[int(place * len(data))] ^= 8
    for damaged in (bytes(data), intact[: int(place * len(intact))]):
        path.write_bytes(damaged)
        assert StoredFit.of(memory, SETTINGS).read() is None
        assert scores(memory) == expected
        assert StoredFit.of(memory, SETTINGS).read() is not None


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_file(memory, tmp_path):
    place = replace(StoredFit.of(memory, SETTINGS), path=tmp_path / "gone" / NAME)
    found = Scorer(memory.vectors, SETTINGS, fits=place).score(FEATURES)
    assert found.tobytes() == scores(memory, stored=False)


def test_nothing_is_stored_for_an_address():
    assert StoredFit.of(SimpleNamespace(location="s3://bucket/birds"), SETTINGS) is None


def test_verify_repair_and_the_next_build_leave_the_file_alone(memory):
    scores(memory)
    assert all(finding.ok for finding in memory.verify())
    Memory.repair(memory.directory)
    assert StoredFit.of(Memory.open(memory.directory), SETTINGS).read() is not None
    build(ANIMALS, memory.directory, FakeEncoder())
    assert not len(Memory.open(memory.directory).vectors.exemplars)


def test_a_recognizer_uses_it_unless_some_categories_compete(memory, fits):
    encoder = FakeEncoder()
    encoder.default_temperature = 0.1
    settings = Settings(score=SETTINGS)
    whole = Recognizer(encoder, memory, settings=settings)
    expected = whole.scorer.score(FEATURES)
    fits.clear()
    assert np.array_equal(Recognizer(encoder, memory, settings=settings).scorer.score(FEATURES), expected)
    assert not fits
    Recognizer(encoder, memory, settings=settings, only=np.arange(5)).scorer.score(FEATURES)
    assert fits
    assert StoredFit.of(memory, SETTINGS).read() is not None
