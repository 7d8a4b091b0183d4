import pytest

from memory.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "image", "0 images"), (1, "image", "1 image"), (2, "image", "2 images"), (1000, "row", "1000 rows"),
        (1, "category", "1 category"), (2, "category", "2 categories"), (2, "key", "2 keys"), (3, "box", "3 boxes"),
        (2, "match", "2 matches"), (2, "class", "2 classes"),
    ],
)  # fmt: skip
def test_nouns_follow_their_number(number, noun, text):
    assert counted(number, noun) == text


def test_odd_plurals_are_given():
    assert counted(2, "link that leads nowhere", "links that lead nowhere") == "2 links that lead nowhere"
