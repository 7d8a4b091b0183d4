import pytest

from memory import EncoderCard
from memory.encoder_card import is_fingerprint

CARD = EncoderCard("one", "0123456789abcdef" * 4, "bf16", 512, {"model": "one"})


def test_a_card_survives_json():
    assert EncoderCard.from_json(CARD.to_json()) == CARD


@pytest.mark.parametrize("missing", ["name", "fingerprint", "precision", "dim", "spec"])
def test_a_card_without_a_field_is_refused(missing):
    with pytest.raises(KeyError):
        EncoderCard.from_json({key: value for key, value in CARD.to_json().items() if key != missing})


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n"])
def test_a_fingerprint_is_64_hexadecimal_digits(text):
    assert is_fingerprint("a" * 64)
    assert not is_fingerprint(text)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        EncoderCard("one", text, "fp32", 4)


@pytest.mark.parametrize("dim", [0, -1])
def test_the_dimension_is_positive(dim):
    with pytest.raises(ValueError, match="not positive"):
        EncoderCard("one", "a" * 64, "fp32", dim)
