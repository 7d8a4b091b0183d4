import pytest

from memory import Category, Description, Memory
from tests.memory.building import build, exemplar_set
from tests.memory.fake_encoder import FakeEncoder


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


@pytest.fixture
def built(categories, directory, encoder):
    """A memory with exemplars, from which a category was removed, so that it has every kind of file."""
    build(categories, directory, encoder, exemplars=exemplar_set(categories, 1))
    Memory.open(directory).remove(["dog"])
    return directory
