import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recognizer.encoder.text_batches import bucket_length, encode_in_buckets

CPU = torch.device("cpu")


class LetterTower:
    """Counts the letters a to d of a text; remembers every batch it was given."""

    dim, context_length, pad_id = 4, 20, 0

    def __init__(self):
        self.shapes = []
        self.real_rows = 0

    def tokenize(self, texts):
        self.real_rows += len(texts)
        return [[" abcd".index(letter) for letter in text][: self.context_length] for text in texts]

    def count_tokens(self, texts):
        return [len(text) for text in texts]

    def forward(self, tokens):
        self.shapes.append(tuple(tokens.shape))
        return torch.stack([(tokens == letter).sum(dim=1) for letter in range(1, 5)], dim=1).float()


@given(st.lists(st.text("abcd", min_size=1, max_size=20), max_size=60))
def test_rows_come_back_in_order_and_each_text_is_encoded_once(texts):
    tower = LetterTower()
    vectors = encode_in_buckets(tower, texts, device=CPU)
    counts = np.array([[text.count(letter) for letter in "abcd"] for text in texts], dtype=np.float32).reshape(-1, 4)
    np.testing.assert_allclose(vectors * np.linalg.norm(counts, axis=1, keepdims=True), counts, atol=1e-5)
    assert tower.real_rows == len(set(texts))
    assert all(rows % 16 == 0 and length in (8, 16, 20) for rows, length in tower.shapes)


def test_buckets_are_multiples_of_eight_within_the_context():
    assert [bucket_length(tokens, 77) for tokens in (1, 8, 9, 72, 73, 77)] == [8, 8, 16, 72, 77, 77]


@pytest.mark.parametrize("encoder_name", ["tiny_vit", "starter"])
def test_a_vector_depends_on_its_own_text_alone_to_the_last_bit(encoder_name, request):
    encoder = request.getfixturevalue(encoder_name)
    texts = [
        f"{name} number {index}" for index in range(40) for name in ("cat", "a rather long-winded dog of many words")
    ]
    together = encoder.encode_texts(texts)
    np.testing.assert_array_equal(together, encoder.encode_texts(texts[::-1])[::-1])
    np.testing.assert_array_equal(together[17:18], encoder.encode_texts(texts[17:18]))
