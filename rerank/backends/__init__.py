"""The multimodal LLMs behind the one protocol; each file imports its heavy library only when it is used."""

from __future__ import annotations

from rerank.backends.opening import BackendOptions, open_mllm

__all__ = ["BackendOptions", "open_mllm"]
