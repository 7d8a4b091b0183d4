import pytest

from memory import Category, Description
from tests.memory.fake_encoder import FakeEncoder

TEMPLATES = ("a photo of a {}.", "{c}")


@pytest.fixture
def encoder():
    return FakeEncoder()


@pytest.fixture
def categories():
    return [
        Category("cat", descriptions=(Description("whiskers"), Description("It is furry."))),
        Category("dog"),
        Category("crane", "bird", (Description("long legs", source="a book"),), {"wnid": "n02"}),
        Category("crane", "machine", (Description("Cranes lift heavy loads.", "sentence"),)),
    ]


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "memory"
