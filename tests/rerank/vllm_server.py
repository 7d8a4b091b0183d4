"""A real vLLM server with the tiny model, in that package's own environment, which RECOGNIZER_VLLM_PYTHON names."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rerank.tiny_mllm.pictures import FOLDER, MODEL

ROOT = Path(__file__).parents[2]
VLLM = os.environ.get("RECOGNIZER_VLLM_PYTHON")
ENVIRONMENT = {
    **os.environ,
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(ROOT),
}
SCORE_TEMPLATE = FOLDER / "score_template.jinja"
"""Makes a reranker of the tiny model: it chooses between the document and something that no picture shows."""
NO_AND_YES = ("B", "A")
AS_RERANKER = (
    *("--runner", "pooling", "--chat-template", str(SCORE_TEMPLATE), "--hf-overrides"),
    json.dumps(
        {
            "architectures": ["Qwen2VLForSequenceClassification"],
            "classifier_from_token": NO_AND_YES,
            "method": "from_2_way_softmax",
        }
    ),
)


@contextmanager
def vllm_server(*arguments: str) -> Iterator[str]:
    """Start a server of the tiny model with further arguments; yields its base URL."""
    assert VLLM
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # What `vllm serve` starts; that command itself looks for a package named vllm, and the CPU wheel has another name.
    command = [VLLM, "-m", "vllm.entrypoints.openai.api_server", "--model", str(MODEL), "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--dtype", "float32"]
    command += ["--max-model-len", "1024", "--max-num-seqs", "32", *arguments]
    with open(os.devnull, "w") as silence:
        process = subprocess.Popen(command, env=ENVIRONMENT, cwd=ROOT, stdout=silence, stderr=silence)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            assert process.poll() is None, "vllm serve ended"
            try:
                with urllib.request.urlopen(f"{url}/models", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(60)
