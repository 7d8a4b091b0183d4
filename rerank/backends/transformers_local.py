"""A multimodal LLM that transformers runs in this process."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rerank.backends.local import SymbolIds, read_choice, symbol_ids, weights_identity
from rerank.mllm import SYMBOLS, Choice, ChoiceRequest, Failure, ListRequest, MllmUnavailable, Reply, Usage

if TYPE_CHECKING:
    from torch import Tensor

Request = TypeVar("Request", ChoiceRequest, ListRequest)
Reading = TypeVar("Reading")


class TransformersLocal:
    """Any image-text-to-text model of transformers, in batches.

    A choice is one forward pass: the log-probabilities of the option symbols at the last position. Requests are batched
    by length of text, so that little is padded.

    Args:
        model: hub name or local directory. Remote code is never run.
        one_token: answers will be single option letters.
        revision: commit of a hub model.
        device: `auto` (CUDA if there is one), `cpu`, `cuda`, `cuda:N`.
        dtype: `auto` (as stored), `float32`, `bfloat16`, `float16`.
        batch_size: requests per forward pass; halved for good when memory runs out.

    Raises:
        MllmUnavailable: the model cannot be loaded, is not a multimodal LLM with a chat template, or has no single
            tokens for option letters.
    """

    def __init__(
        self,
        model: str,
        *,
        one_token: bool = True,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 8,
    ) -> None:
        """Load processor and weights."""
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            processor = AutoProcessor.from_pretrained(model, revision=revision, trust_remote_code=False)
            network = AutoModelForImageTextToText.from_pretrained(
                model, revision=revision, trust_remote_code=False, dtype=dtype, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise MllmUnavailable(
                f"cannot load {model!r} as a multimodal LLM: {str(error).splitlines()[0]}; give a hub name that is in "
                "the local cache, a directory of one, or the URL of a server"
            ) from error
        tokenizer = getattr(processor, "tokenizer", None)
        if tokenizer is None or not (processor.chat_template or tokenizer.chat_template):
            raise MllmUnavailable(
                f"{model!r} has no chat template for images; give an instruction-tuned multimodal LLM"
            )
        tokenizer.padding_side = "left"  # so that the answer comes after the last position in every row
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._network: Any = network.to(chosen).eval()
        self._processor: Any = processor
        self._tokenizer: Any = tokenizer
        self._device = torch.device(chosen)
        self._ids: SymbolIds = symbol_ids(self._encode, SYMBOLS) if one_token else {}
        self._last_only = (
            {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(network.forward).parameters else {}
        )
        self._lock = threading.Lock()
        self.parallel = batch_size
        self.name = model
        commit = getattr(network.config, "_commit_hash", None) or revision
        self.identity = f"transformers {weights_identity(model, commit)} {network.dtype}"

    def choose(self, requests: Sequence[ChoiceRequest]) -> list[Choice | Failure]:
        """Answer each request by the log-probabilities of its symbols at the answer's first token."""
        return self._in_batches(requests, self._choose_batch)

    def write(self, requests: Sequence[ListRequest]) -> list[Reply | Failure]:
        """Answer each request in free text, greedily."""
        return self._in_batches(requests, self._write_batch)

    def close(self) -> None:
        """Release the weights."""
        self._network = None

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _in_batches(
        self, requests: Sequence[Request], answer: Callable[[Sequence[Request]], list[Reading | Failure]]
    ) -> list[Reading | Failure]:
        """Answer in batches of similar length; when memory runs out they are halved, and a batch of one fails."""
        import torch

        order = sorted(range(len(requests)), key=lambda place: len(requests[place].text))
        replies: dict[int, Reading | Failure] = {}
        start = 0
        with self._lock, torch.inference_mode():
            while start < len(order):
                places = order[start : start + self.parallel]
                try:
                    answers = answer([requests[place] for place in places])
                except torch.OutOfMemoryError:
                    if self._device.type == "cuda":
                        torch.cuda.empty_cache()
                    if self.parallel > 1:
                        self.parallel //= 2
                        continue
                    answers = [Failure("refused: out of memory")]
                replies |= zip(places, answers, strict=True)
                start += len(places)
        return [replies[place] for place in range(len(requests))]

    def _choose_batch(self, requests: Sequence[ChoiceRequest]) -> list[Choice | Failure]:
        inputs = self._inputs(requests)
        logits: Tensor = self._network(**inputs, **self._last_only).logits[:, -1]
        log_probs = logits.float().log_softmax(-1).cpu().numpy()
        prompt = inputs["attention_mask"].sum(1).tolist()
        answers: list[Choice | Failure] = []
        for row, request, tokens in zip(log_probs, requests, prompt, strict=True):
            if not np.isfinite(row).any():
                answers.append(Failure("unreadable: the model's log-probabilities are not finite"))
                continue
            answers.append(read_choice(row.__getitem__, self._ids, request.symbols, Usage(int(tokens), 1)))
        return answers

    def _write_batch(self, requests: Sequence[ListRequest]) -> list[Reply | Failure]:
        inputs = self._inputs(requests)
        longest = max(request.max_tokens for request in requests)
        written = self._network.generate(**inputs, do_sample=False, max_new_tokens=longest)
        new = written[:, inputs["input_ids"].shape[1] :]
        pad = self._tokenizer.pad_token_id
        prompt = inputs["attention_mask"].sum(1).tolist()
        return [
            Reply(
                self._tokenizer.decode(row[: request.max_tokens], skip_special_tokens=True),
                Usage(int(tokens), int((row[: request.max_tokens] != pad).sum())),
            )
            for row, request, tokens in zip(new, requests, prompt, strict=True)
        ]

    def _inputs(self, requests: Sequence[ChoiceRequest] | Sequence[ListRequest]) -> dict[str, Tensor]:
        texts = [
            self._processor.apply_chat_template(
                [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": request.text}]}],
                add_generation_prompt=True,
                tokenize=False,
            )
            for request in requests
        ]
        images = [[request.image] for request in requests]
        inputs = self._processor(text=texts, images=images, return_tensors="pt", padding=True).to(self._device)
        # Pixels arrive as float32; the weights may be half precision.
        cast: dict[str, Tensor] = {
            name: value.to(self._network.dtype) if value.is_floating_point() else value
            for name, value in inputs.items()
        }
        return cast
