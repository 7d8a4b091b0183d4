import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.benchmark import naming
from recognizer.benchmark.naming import SENTENCE_MODEL, cluster_accuracy, semantic_accuracy, sentence_encoder
from recognizer.encoder.errors import EncoderUnavailable
from tests.memory.fake_encoder import FakeEncoder
from tests.reference import best_pairing_accuracy, mean_of_cosines


@given(st.lists(st.tuples(st.sampled_from("pqrs"), st.sampled_from("abc")), min_size=1, max_size=12))
def test_cacc_is_the_best_of_all_pairings(pairs):
    predicted, truth = zip(*pairs, strict=True)
    assert cluster_accuracy(predicted, truth) == pytest.approx(best_pairing_accuracy(predicted, truth))


def test_a_wrong_name_for_a_whole_class_costs_cacc_nothing_and_a_split_class_does():
    assert cluster_accuracy(["owl", "owl", "gull"], ["eagle", "eagle", "tern"]) == 1
    assert cluster_accuracy(["owl", "hawk", "gull"], ["eagle", "eagle", "tern"]) == pytest.approx(2 / 3)


def test_sacc_is_the_mean_cosine_of_the_pairs():
    encoder = FakeEncoder()
    predicted, truth = ["barn owl", "gull", "gull"], ["owl", "gull", "tern"]
    expected = mean_of_cosines(predicted, truth, encoder.vector)
    assert semantic_accuracy(predicted, truth, encoder.encode_texts) == pytest.approx(expected, abs=1e-6)
    # names of folders are read as words
    assert semantic_accuracy(["001.Barn_owl"], ["Barn owl"], encoder.encode_texts) == pytest.approx(1)


def test_names_are_compared_by_the_sentence_model_or_where_it_is_missing_by_the_text_tower(monkeypatch):
    encoder = FakeEncoder()
    name, encode = sentence_encoder(encoder)
    assert name == SENTENCE_MODEL
    owl, near, far = encode(["owl", "barn owl", "screwdriver"])
    assert owl @ near > owl @ far
    np.testing.assert_allclose(np.linalg.norm([owl, near, far], axis=1), 1, atol=1e-5)

    def missing():
        raise EncoderUnavailable("not installed")

    monkeypatch.setattr(naming, "starter_text_folder", missing)
    name, encode = sentence_encoder(encoder)
    assert "fake" in name
    np.testing.assert_array_equal(encode(["owl"]), encoder.encode_texts(["owl"]))
