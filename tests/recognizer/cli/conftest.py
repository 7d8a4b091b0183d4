import pytest


@pytest.fixture(scope="module", autouse=True)
def _encoders(encoders_loaded_once):
    """Commands run in this process share their encoders."""
