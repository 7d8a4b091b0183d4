import pytest
import torch

from tests.training.runs import write_data, write_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A manifest of 16 samples."""
    return write_data(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def one_thread():
    """One thread computes what is compared bit for bit with another process; tiny models are faster on it, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
