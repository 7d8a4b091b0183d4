import re
import sys

from recognizer.doctor import examine
from recognizer.encoder import EncoderUnavailable
from tests.recognizer.commands import call


def test_doctor_finds_the_starter_weights():
    code, out, _ = call("doctor")
    assert code == 0
    assert "sha256 as published" in out
    assert re.search(r"rerank: transformers \d.*; answers are cached in /", out)


def test_missing_weights_are_named_and_the_exit_code_is_1(monkeypatch):
    def missing():
        raise EncoderUnavailable("install the extra `starter`")

    monkeypatch.setattr("recognizer.encoder.starter.weights.starter_image_weights", missing)
    code, out, _ = call("doctor")
    assert code == 1
    assert "BAD  starter image weights: install the extra `starter`" in out


def test_the_hub_is_reported_as_the_environment_allows_it(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    assert examine()[-1].finding == "on"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert examine()[-1].finding == "off, because HF_HUB_OFFLINE is set"


def test_two_wheels_of_faiss_side_by_side_are_found(monkeypatch):
    wheels = {"faiss": ["faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu"]}
    monkeypatch.setattr("recognizer.doctor.packages_distributions", lambda: wheels)
    found = next(check for check in examine() if check.subject == "faiss")
    assert not found.ok
    assert found.finding.startswith("faiss-gpu and faiss-gpu-cuvs are installed side by side")


def test_a_faiss_that_cannot_be_loaded_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    found = next(check for check in examine() if check.subject == "faiss")
    assert not found.ok
    assert found.finding.startswith("cannot be loaded: ")
