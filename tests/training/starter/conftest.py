import pytest

from tests.training.starter.made_up import write_pictures


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("made-up"))
