import pytest

from rerank.backends import BackendOptions, open_mllm
from rerank.backends.opening import choose_backend
from rerank.mllm import MllmUnavailable
from tests.rerank.tiny_mllm.pictures import MODEL


@pytest.mark.parametrize(
    ("model", "backend", "expected"),
    [
        ("http://127.0.0.1:8000/v1", "auto", ("openai", "http://127.0.0.1:8000/v1")),
        ("openai:https://x/v1", "auto", ("openai", "https://x/v1")),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "auto", ("transformers", "Qwen/Qwen2.5-VL-7B-Instruct")),
        ("vllm:Qwen/Qwen2.5-VL-7B-Instruct", "auto", ("vllm", "Qwen/Qwen2.5-VL-7B-Instruct")),
        ("reranker:http://127.0.0.1:8000/v1", "auto", ("reranker", "http://127.0.0.1:8000/v1")),
        ("models/qwen", "vllm", ("vllm", "models/qwen")),
        ("C:/models", "auto", ("transformers", "C:/models")),
    ],
)
def test_the_name_tells_the_backend(model, backend, expected):
    assert choose_backend(model, backend) == expected


def test_what_cannot_be_loaded_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MllmUnavailable, match=r"cannot load .*give a hub name"):
        open_mllm(str(tmp_path), BackendOptions())
    for model, message in {
        "vllm:": "no name after its prefix",
        "127.0.0.1:8000": r"give http://127\.0\.0\.1:8000/v1$",
        "localhost:8911/": r"give http://localhost:8911/v1$",
        "localhost:8911/v1": r"give http://localhost:8911/v1$",
        "gateway.example.org:443/openai/v1/": r"give http://gateway\.example\.org:443/openai/v1$",
        "localhost/v1": r"give http://localhost/v1$",
        "openai:localhost:8911/v1": r"look like http://localhost:8911/v1$",
        "reranker:localhost:8911": r"look like http://localhost:8911/v1$",
        "reranker:Qwen/Qwen3-VL-Reranker-2B": r"look like http://127\.0\.0\.1:8000/v1$",
        "/nowhere/model": "there is no directory /nowhere/model",
        "./models": r"there is no directory \./models",
    }.items():
        with pytest.raises(MllmUnavailable, match=message):
            open_mllm(model, BackendOptions())


def test_vllm_that_is_not_installed_says_what_to_do():
    with pytest.raises(MllmUnavailable, match="vllm serve MODEL"):
        open_mllm(f"vllm:{MODEL}", BackendOptions())
