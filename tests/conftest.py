"""The starter encoder and a memory of the demo's labels, made once."""

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# The tests run in one process per core; more threads than that only wait for each other. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The default encoder depends on the hub cache, and no test on the machine's: there is no such folder.
os.environ["HF_HUB_CACHE"] = os.path.join(os.path.dirname(__file__), "no_hub_cache")

import hypothesis
import pytest
import torch

from memory import Memory, read_labels
from recognizer import Encoder, Recognizer
from recognizer.demo import DATA
from tests.objects_server import ObjectServer, environment, running_server
from tests.remembering import remembering

# An example that takes long says that the machine is busy, not that the code is wrong.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def cuda() -> str:
    """The device of tests that are marked `gpu`."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return "cuda"


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray on this machine, started once; what libraries of its workers warn of is not ours."""
    from recognizer.engine.cluster import connected

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with connected() as ray:
            yield ray
    logging.getLogger("ray").setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    with running_server(tmp_path_factory.mktemp("objects")) as server:
        yield server


@pytest.fixture
def object_store(object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectServer:
    """The server, named in the environment; the cache is empty."""
    for name, value in environment(object_server.url, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    return object_server


@pytest.fixture(scope="session")
def starter() -> Encoder:
    return Encoder.load(device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def loaded_encoders() -> dict[object, Encoder]:
    return {}


@pytest.fixture(scope="module")
def encoders_loaded_once(loaded_encoders: dict[object, Encoder]) -> Iterator[None]:
    """Load each encoder once: commands that run in this process share it, and what it found in images and texts.

    Loading it, or encoding some images, takes longer than most tests.
    """
    load = Encoder.from_spec

    def load_once(
        spec: Mapping[str, Any], *, device: str = "auto", precision: str = "auto", onnx: Path | None = None
    ) -> Encoder:
        key = json.dumps(spec, sort_keys=True), device, precision, onnx
        if key not in loaded_encoders:
            loaded_encoders[key] = remembering(load(spec, device=device, precision=precision, onnx=onnx))
        return loaded_encoders[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Encoder, "from_spec", load_once)
        yield


@pytest.fixture(scope="session")
def demo_memory(starter: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "memory"
    Memory.build(read_labels(DATA / "labels.json"), folder, encoder=starter, templates=starter.default_templates)
    return folder


@pytest.fixture(scope="session")
def demo_recognizer(starter: Encoder, demo_memory: Path) -> Recognizer:
    return Recognizer(remembering(starter), Memory.open(demo_memory))


@pytest.fixture(scope="session")
def photos() -> Path:
    return DATA / "photos"
