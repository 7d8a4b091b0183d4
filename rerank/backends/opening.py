"""Opens the backend that a name or an address stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rerank.mllm import Mllm, MllmUnavailable, Scorer

Backend = Literal["auto", "transformers", "vllm", "openai", "reranker"]
PREFIXES: tuple[Backend, ...] = ("transformers", "vllm", "openai", "reranker")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """Options of all backends; each reads those marked with its name, and those marked with none.

    Attributes:
        revision: commit of a hub model; of a server's model, as you know it.
        one_token: answers will be single option letters, so a model that has no tokens for them is refused at once.
        served_model: name of the model at a server; None: the first that the server lists (openai, reranker).
        device: `auto`, `cpu`, `cuda`, `cuda:N` (transformers).
        dtype: `auto` (as stored), `float32`, `bfloat16`, `float16` (transformers, vllm).
        batch_size: requests per forward pass (transformers).
        tensor_parallel_size: GPUs that share the model (vllm).
        max_num_seqs: requests in flight in the engine (vllm).
        max_model_len: tokens of prompt and answer (vllm); None: the model's own.
        enforce_eager: no compilation and no CUDA graphs (vllm): a quicker start, slower answers.
        image_size: longest side in pixels of the images to come (vllm reserves memory for it).
        concurrency: requests in flight (openai, reranker).
        timeout_s: per attempt (openai, reranker).
        retries: after the first attempt (openai, reranker).
        jpeg_quality: of the images sent (openai, reranker); None: PNG, lossless.
        api_key_env: environment variable that holds the key (openai, reranker).
    """

    revision: str | None = None
    one_token: bool = True
    served_model: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 8
    tensor_parallel_size: int = 1
    max_num_seqs: int = 64
    max_model_len: int | None = None
    enforce_eager: bool = False
    image_size: int = 768
    concurrency: int = 16
    timeout_s: float = 60.0
    retries: int = 2
    jpeg_quality: int | None = 95
    api_key_env: str = "OPENAI_API_KEY"


def choose_backend(model: str, backend: Backend) -> tuple[Backend, str]:
    """Choose the backend of a model: by a prefix such as `vllm:NAME`, else `backend`, else openai for a URL.

    A reranker is told by its prefix, not by asking: the list of a server's models does not say what they are, and a
    gateway can offer chat completions and `/rerank` for different models under one address. So the kind is known
    before anything is sent, and one name always means one thing.

    Returns:
        The backend, never `auto`, and the model without the prefix.
    """
    prefix, separator, rest = model.partition(":")
    for named in PREFIXES:
        if separator and prefix == named:
            return named, rest
    if backend != "auto":
        return backend, model
    return ("openai" if model.startswith(("http://", "https://")) else "transformers"), model


def check_name(model: str, backend: Backend = "auto") -> tuple[Backend, str]:
    """Check the name of a model without opening anything.

    Returns:
        As `choose_backend`.

    Raises:
        MllmUnavailable: the name is empty, a missing directory, or not the address of a server, or it has a password.
    """
    chosen, name = choose_backend(model, backend)
    if not name:
        raise MllmUnavailable(f"the model {model!r} has no name after its prefix")
    from rerank.backends.server_client import bare_address, checked_address

    if chosen in ("openai", "reranker"):
        checked_address(name)
    elif name.startswith(("/", "./", "../", "~")):
        if not Path(name).expanduser().is_dir():
            raise MllmUnavailable(f"there is no directory {name}")
    elif (address := bare_address(name)) is not None and not Path(name).is_dir():
        raise MllmUnavailable(f"{model!r} is not a model; for a server give {address}")
    return chosen, name


def open_mllm(
    model: str,
    options: BackendOptions,
    *,
    backend: Backend = "auto",
    warn: Callable[[str], None] | None = None,
) -> Mllm | Scorer:
    """Open a multimodal LLM, or a reranker.

    Args:
        model: a hub name, a local directory, or the base URL of an OpenAI-compatible server, such as
            `http://127.0.0.1:8000/v1`; a prefix `transformers:`, `vllm:`, `openai:` or `reranker:` chooses the
            backend.
        options: of the backend.
        backend: `auto`: `model` decides, see `choose_backend`.
        warn: called with a sentence about what a server cannot do; it may hold foreign text, not escaped.

    Raises:
        MllmUnavailable: package, weights or server are missing; the message says what to do.
    """
    chosen, name = check_name(model, backend)
    if chosen in ("openai", "reranker"):
        from rerank.backends.image_requests import ImageRequests
        from rerank.backends.openai_server import OpenAIServer
        from rerank.backends.rerank_server import RerankServer
        from rerank.backends.server_client import ServerClient

        client = ServerClient(
            name, api_key_env=options.api_key_env, timeout_s=options.timeout_s, retries=options.retries, warn=warn
        )
        requests = ImageRequests(
            client,
            model=options.served_model,
            revision=options.revision,
            concurrency=options.concurrency,
            jpeg_quality=options.jpeg_quality,
        )
        return OpenAIServer(requests) if chosen == "openai" else RerankServer(requests)
    if chosen == "vllm":
        from rerank.backends.vllm_local import VllmLocal

        return VllmLocal(
            name,
            one_token=options.one_token,
            revision=options.revision,
            dtype=options.dtype,
            tensor_parallel_size=options.tensor_parallel_size,
            max_num_seqs=options.max_num_seqs,
            max_model_len=options.max_model_len,
            enforce_eager=options.enforce_eager,
            image_size=options.image_size,
        )
    from rerank.backends.transformers_local import TransformersLocal

    return TransformersLocal(
        name,
        one_token=options.one_token,
        revision=options.revision,
        device=options.device,
        dtype=options.dtype,
        batch_size=options.batch_size,
    )
