import os

import pytest


@pytest.fixture
def any_content(monkeypatch):
    """Let torchvision read miniature files, though their check sums are not those of the real ones."""
    for module in ("cifar", "flowers102", "places365"):
        monkeypatch.setattr(
            f"torchvision.datasets.{module}.check_integrity", lambda path, md5=None: os.path.isfile(path)
        )
