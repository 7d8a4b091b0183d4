"""A multimodal LLM that vLLM's engine runs in this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from rerank.backends.local import read_choice, symbol_ids, weights_identity
from rerank.mllm import SYMBOLS, Choice, ChoiceRequest, Failure, MllmUnavailable, Reply, Usage, WriteRequest


class VllmLocal:
    """A model in a vLLM engine: continuous batching, and a prefix cache that serves the rotations of an image.

    Args:
        model: hub name or local directory. Remote code is never run.
        one_token: answers will be single option letters.
        revision: commit of a hub model.
        dtype: `auto`, `float32`, `bfloat16`, `float16`.
        tensor_parallel_size: GPUs that share the model.
        max_num_seqs: requests in flight in the engine, at most.
        max_model_len: tokens of prompt and answer; None: the model's own.
        enforce_eager: no compilation and no CUDA graphs.
        image_size: longest side in pixels of the images to come.

    Raises:
        MllmUnavailable: vLLM is not installed, or the model cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        *,
        one_token: bool = True,
        revision: str | None = None,
        dtype: str = "auto",
        tensor_parallel_size: int = 1,
        max_num_seqs: int = 64,
        max_model_len: int | None = None,
        enforce_eager: bool = False,
        image_size: int = 768,
    ) -> None:
        """Start the engine."""
        try:
            from vllm import LLM
            from vllm.exceptions import VLLMError
        except ImportError as error:
            raise MllmUnavailable(
                "vLLM is not installed here; install recognizer[vllm], or run `vllm serve MODEL` elsewhere and give "
                "its URL"
            ) from error
        try:
            self._engine: Any = LLM(
                model=model,
                revision=revision,
                dtype=dtype,
                tensor_parallel_size=tensor_parallel_size,
                max_num_seqs=max_num_seqs,
                max_model_len=max_model_len,
                enforce_eager=enforce_eager,
                trust_remote_code=False,
                limit_mm_per_prompt={"image": {"count": 1, "width": image_size, "height": image_size}},
            )
        except (OSError, ValueError, RuntimeError, VLLMError) as error:
            raise MllmUnavailable(f"vLLM cannot load {model!r}: {str(error).splitlines()[0]}") from error
        tokenizer = self._engine.get_tokenizer()
        try:
            symbols = SYMBOLS if one_token else ()
            self._ids = symbol_ids(lambda text: tokenizer.encode(text, add_special_tokens=False), symbols)
        except MllmUnavailable:
            self.close()
            raise
        self._lock = threading.Lock()
        self.parallel = max_num_seqs
        self.name = model
        commit = getattr(self._engine.model_config.hf_config, "_commit_hash", None) or revision
        self.identity = f"vllm {weights_identity(model, commit)} {self._engine.model_config.dtype}"

    def choose(self, requests: Sequence[ChoiceRequest]) -> list[Choice | Failure]:
        """Answer each request with one symbol under a grammar, with the log-probabilities of the symbols' tokens."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        parameters = [
            SamplingParams(
                temperature=0,
                max_tokens=1,
                structured_outputs=StructuredOutputsParams(choice=list(request.symbols)),
                logprob_token_ids=[token for symbol in request.symbols for token in self._ids[symbol]],
            )
            for request in requests
        ]
        return [
            self._read_choice(request, output)
            for request, output in zip(requests, self._chat(requests, parameters), strict=True)
        ]

    def write(self, requests: Sequence[WriteRequest]) -> list[Reply | Failure]:
        """Answer each request in text, greedily, under its schema."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        parameters = [
            SamplingParams(
                temperature=0,
                max_tokens=request.max_tokens,
                structured_outputs=request.schema and StructuredOutputsParams(json=dict(request.schema)),
            )
            for request in requests
        ]
        return [_read_reply(output) for output in self._chat(requests, parameters)]

    def close(self) -> None:
        """Stop the engine."""
        self._engine.llm_engine.engine_core.shutdown()

    def _chat(
        self, requests: Sequence[ChoiceRequest] | Sequence[WriteRequest], parameters: Sequence[Any]
    ) -> list[Any | Failure]:
        messages = [
            [
                {
                    "role": "user",
                    "content": [
                        *([{"type": "image_pil", "image_pil": request.image}] if request.image is not None else []),
                        {"type": "text", "text": request.text},
                    ],
                }
            ]
            for request in requests
        ]
        with self._lock:
            return self._answers(messages, list(parameters))

    def _answers(self, messages: list[Any], parameters: list[Any]) -> list[Any | Failure]:
        """Ask the engine; a request that it refuses (one that is too long, say) fails alone."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            outputs: list[Any | Failure] = self._engine.chat(messages, parameters, use_tqdm=False)
        except EngineDeadError:
            return [Failure("unreachable", hopeless=True)] * len(messages)
        except (ValueError, VLLMClientError):
            if len(messages) == 1:
                return [Failure("refused")]
            return [
                answer
                for message, parameter in zip(messages, parameters, strict=True)
                for answer in self._answers([message], [parameter])
            ]
        return outputs

    def _read_choice(self, request: ChoiceRequest, output: Any) -> Choice | Failure:  # noqa: ANN401  vLLM has no types
        if isinstance(output, Failure):
            return output
        if not output.outputs or not output.outputs[0].logprobs:
            return Failure("unreadable: no answer")
        at_first = output.outputs[0].logprobs[0]
        return read_choice(lambda token: float(at_first[token].logprob), self._ids, request.symbols, _usage(output))


def _read_reply(output: Any) -> Reply | Failure:  # noqa: ANN401
    if isinstance(output, Failure):
        return output
    return Reply(output.outputs[0].text, _usage(output)) if output.outputs else Failure("unreadable: no answer")


def _usage(output: Any) -> Usage:  # noqa: ANN401
    return Usage(len(output.prompt_token_ids or ()), len(output.outputs[0].token_ids) if output.outputs else 0)
