"""The multimodal LLMs behind the protocol of `rerank.mllm`: an OpenAI-compatible server, transformers, vLLM.

The entry point is `open_mllm`. Each backend imports its heavy library only when it is opened, and must not know about
candidates, rotations or rankings.
"""

from __future__ import annotations

from rerank.backends.opening import BackendOptions, open_mllm

__all__ = ["BackendOptions", "open_mllm"]
