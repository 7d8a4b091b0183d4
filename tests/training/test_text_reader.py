import pytest
import torch
from torch import nn

from tests.training.runs import CPU
from training.text_reader import FrozenReader, LearningReader


class CountingTower:
    """Stands for a text tower; a text's vector is made of its length and first letter."""

    context_length, pad_id, dim, network = 16, 0, 3, None

    def __init__(self):
        self.encoded = []

    def tokenize(self, texts):
        self.encoded += texts
        return [[1 + ord(text[0]) % 7] * len(text) for text in texts]

    def forward(self, tokens):
        first, length = tokens[:, 0].float(), (tokens > 0).sum(1).float()
        return torch.stack([first, length, torch.ones_like(first)], 1)


@pytest.mark.parametrize("reader", [FrozenReader, LearningReader])
def test_texts_come_back_in_their_order_each_encoded_once(reader):
    tower = CountingTower()
    texts = ["bb", "a long one", "a", "bb", "c" * 9, "a"]
    found = reader(tower, CPU).read(texts)
    expected = nn.functional.normalize(
        tower.forward(torch.tensor([[1 + ord(t[0]) % 7] * len(t) + [0] * (16 - len(t)) for t in texts])), dim=-1
    )
    torch.testing.assert_close(found, expected)
    assert sorted(tower.encoded) == sorted(set(texts))
    assert reader(tower, CPU).read([]).shape == (0, 3)


def test_texts_that_come_with_tokens_are_not_tokenised_again():
    tower = CountingTower()
    reader, texts = LearningReader(tower, CPU), ["bb", "a long one", "a"]
    expected = reader.read(texts)
    tokens = {text: tower.tokenize([text])[0] for text in texts[:2]}
    tower.encoded.clear()
    torch.testing.assert_close(reader.read(texts, tokens), expected)
    assert tower.encoded == ["a"]


def test_a_frozen_tower_is_asked_again_only_for_what_was_dropped():
    tower = CountingTower()
    reader = FrozenReader(tower, CPU, most=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        reader.read([text])
    assert tower.encoded == ["a", "b", "c", "b"]


def test_two_readers_share_nothing():
    first, second = CountingTower(), CountingTower()
    for tower in (first, second):
        FrozenReader(tower, CPU).read(["a", "bb"])
    assert first.encoded == second.encoded == ["a", "bb"]
