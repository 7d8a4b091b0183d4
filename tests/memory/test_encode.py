import numpy as np
import pytest

from memory import BadVectors, Category, Description, Memory, MemoryNotFound
from tests.memory.building import build
from tests.memory.fake_encoder import FakeEncoder


def test_every_distinct_text_is_encoded_once(directory, encoder):
    described = [Category(name, descriptions=(Description("red"), Description("blue"))) for name in ("a", "b", "c")]
    build(described, directory, encoder)
    assert len(encoder.texts) == len(set(encoder.texts))
    assert encoder.texts.count("red") == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 2.0, 1e30])
def test_vectors_that_cannot_be_stored_are_refused_by_text(categories, directory, encoder, bad, monkeypatch):
    good = encoder.vector
    monkeypatch.setattr(
        encoder, "vector", lambda text: good(text) * np.float32(bad) if text == "whiskers" else good(text)
    )
    with pytest.raises(BadVectors, match=r"'fake' gave 1 vectors that are not of finite unit length.*'whiskers'"):
        build(categories, directory, encoder)
    with pytest.raises(MemoryNotFound):
        Memory.open(directory)


def test_vectors_of_another_shape_are_refused(categories, directory, encoder, monkeypatch):
    monkeypatch.setattr(encoder, "encode_texts", lambda texts: np.ones((len(texts), 3), np.float32))
    with pytest.raises(BadVectors, match=r"shape \(\d+, 3\) where \(\d+, 16\)"):
        build(categories, directory, encoder)


def test_texts_whose_vectors_cancel_out_are_refused(directory, encoder, monkeypatch):
    good = encoder.vector
    monkeypatch.setattr(encoder, "vector", lambda text: -good("cat") if "photo" in text else good(text))
    with pytest.raises(BadVectors, match=r"'a photo of a cat.' cancel out"):
        build([Category("cat")], directory, encoder)


def test_chunks_hold_texts_of_similar_length_in_an_order_of_their_own(categories, directory, encoder):
    build(list(reversed(categories)), directory, encoder)
    other = FakeEncoder()
    build(categories, directory.with_name("other"), other)
    assert encoder.calls == other.calls
    assert encoder.texts == sorted(encoder.texts, key=len)


def test_vectors_of_another_dimension_under_the_same_name_are_not_used_again(categories, directory):
    build(categories, directory, FakeEncoder(dim=16))
    wider = FakeEncoder(dim=24)
    assert build(categories, directory, wider).report.texts_reused == 0
    assert Memory.open(directory).vectors.names.shape == (4, 24)
