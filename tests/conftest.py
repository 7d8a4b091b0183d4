"""The starter encoder and a memory of the demo's labels, made once."""

from pathlib import Path

import pytest

from memory import Memory, read_labels
from recognizer import Encoder, Recognizer
from recognizer.demo import DATA


@pytest.fixture(scope="session")
def starter() -> Encoder:
    return Encoder.load(device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def demo_memory(starter: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "memory"
    Memory.build(read_labels(DATA / "labels.json"), folder, encoder=starter, templates=starter.default_templates)
    return folder


@pytest.fixture(scope="session")
def demo_recognizer(starter: Encoder, demo_memory: Path) -> Recognizer:
    return Recognizer(starter, Memory.open(demo_memory))


@pytest.fixture(scope="session")
def photos() -> Path:
    return DATA / "photos"
