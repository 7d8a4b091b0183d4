"""A multimodal LLM that transformers runs in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rerank.backends.local import SymbolIds, read_choice, symbol_ids, weights_identity
from rerank.backends.prefix import PrefixedNetwork, shared_length, without_ends
from rerank.mllm import SYMBOLS, Choice, ChoiceRequest, Failure, ListRequest, MllmUnavailable, Reply, Usage

if TYPE_CHECKING:
    from torch import Tensor

Request = TypeVar("Request", ChoiceRequest, ListRequest)
Reading = TypeVar("Reading", Choice, Reply)


class TransformersLocal:
    """Any image-text-to-text model of transformers, in batches.

    A choice is the log-probabilities of the option symbols at the last position of its prompt. What the prompts about
    one image share is computed once. Requests are batched by length of text, so that little is padded.

    Args:
        model: hub name or local directory. Remote code is never run.
        one_token: answers will be single option letters.
        revision: commit of a hub model.
        device: `auto` (CUDA if there is one), `cpu`, `cuda`, `cuda:N`.
        dtype: `auto` (as stored), `float32`, `bfloat16`, `float16`.
        batch_size: rows per forward pass: images, or rests of prompts; halved for good when memory runs out.

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
        self._prefixed = PrefixedNetwork(network)
        self._lock = threading.Lock()
        self.parallel = batch_size
        self.name = model
        commit = getattr(network.config, "_commit_hash", None) or revision
        self.identity = f"transformers {weights_identity(model, commit)} {network.dtype}"

    def choose(self, requests: Sequence[ChoiceRequest]) -> list[Choice | Failure]:
        """Answer each request by the log-probabilities of its symbols at the answer's first token."""
        groups: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(id(request.image), []).append(place)
        replies = self._in_batches([[requests[i] for i in group] for group in groups.values()], self._choose_batch)
        by_place = {
            place: reply
            for group, answers in zip(groups.values(), replies, strict=True)
            for place, reply in zip(group, answers, strict=True)
        }
        return [by_place[place] for place in range(len(requests))]

    def write(self, requests: Sequence[ListRequest]) -> list[Reply | Failure]:
        """Answer each request in free text, greedily."""
        return [reply for (reply,) in self._in_batches([[request] for request in requests], self._write_batch)]

    def close(self) -> None:
        """Release the weights."""
        self._network = self._prefixed = None

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _in_batches(
        self,
        groups: Sequence[Sequence[Request]],
        answer: Callable[[Sequence[Sequence[Request]]], list[list[Reading | Failure]]],
    ) -> list[list[Reading | Failure]]:
        """Answer groups of requests about one image in batches of similar length.

        When memory runs out batches are halved, and a batch of one fails.
        """
        import torch

        order = sorted(range(len(groups)), key=lambda place: len(groups[place][0].text))
        replies: dict[int, list[Reading | Failure]] = {}
        start = 0
        with self._lock, torch.inference_mode():
            while start < len(order):
                places = order[start : start + self.parallel]
                try:
                    answers = answer([groups[place] for place in places])
                except torch.OutOfMemoryError:
                    if self._device.type == "cuda":
                        torch.cuda.empty_cache()
                    if self.parallel > 1:
                        self.parallel //= 2
                        continue
                    answers = [[Failure("refused: out of memory")] * len(groups[place]) for place in places]
                replies |= zip(places, answers, strict=True)
                start += len(places)
        return [replies[place] for place in range(len(groups))]

    def _choose_batch(self, groups: Sequence[Sequence[ChoiceRequest]]) -> list[list[Choice | Failure]]:
        """Answer some images: one pass over the beginnings of their prompts, then passes over the rests."""
        inputs = self._inputs([group[0] for group in groups])
        prompts = [self._tokenizer([self._prompt(request.text) for request in group])["input_ids"] for group in groups]
        shared = [shared_length(each) for each in prompts]
        # The processor puts many tokens in the place of an image, so only the rests of its prompts can be compared.
        rests = [[prompt[length:] for prompt in each] for each, length in zip(prompts, shared, strict=True)]
        cut = [len(each[0]) for each in rests]
        whole = inputs["input_ids"].tolist()
        if any(ids[len(ids) - end :] != each[0] for ids, each, end in zip(whole, rests, cut, strict=True)):
            # This model's image comes after the text: nothing is shared. A request alone has no rest.
            return [[self._choose_batch([[request]])[0][0] for request in group] for group in groups]
        prefixes = self._prefixed.begin(without_ends(inputs, cut, self._tokenizer.pad_token_id))
        logits = {(row, number): prefixes.logits[row] for row, each in enumerate(rests) for number in range(len(each))}
        waiting = [(row, number) for row, number in logits if rests[row][number]]
        for start in range(0, len(waiting), self.parallel):
            part = waiting[start : start + self.parallel]
            found = self._prefixed.go_on(prefixes, [row for row, _ in part], [rests[row][n] for row, n in part])
            logits |= zip(part, found, strict=True)
        begun = prefixes.mask.sum(1).tolist()
        return [
            [
                self._read(logits[row, number], request, begun[row] + len(rest))
                for number, (request, rest) in enumerate(zip(group, rests[row], strict=True))
            ]
            for row, group in enumerate(groups)
        ]

    def _read(self, logits: Tensor, request: ChoiceRequest, tokens: int) -> Choice | Failure:
        log_probs = logits.float().log_softmax(-1).cpu().numpy()
        if not np.isfinite(log_probs).any():
            return Failure("unreadable: the model's log-probabilities are not finite")
        return read_choice(log_probs.__getitem__, self._ids, request.symbols, Usage(tokens, 1))

    def _write_batch(self, groups: Sequence[Sequence[ListRequest]]) -> list[list[Reply | Failure]]:
        requests = [request for (request,) in groups]
        inputs = self._inputs(requests)
        longest = max(request.max_tokens for request in requests)
        written = self._network.generate(**inputs, do_sample=False, max_new_tokens=longest)
        new = written[:, inputs["input_ids"].shape[1] :]
        pad = self._tokenizer.pad_token_id
        prompt = inputs["attention_mask"].sum(1).tolist()
        return [
            [
                Reply(
                    self._tokenizer.decode(row[: request.max_tokens], skip_special_tokens=True),
                    Usage(int(tokens), int((row[: request.max_tokens] != pad).sum())),
                )
            ]
            for row, request, tokens in zip(new, requests, prompt, strict=True)
        ]

    def _prompt(self, text: str) -> str:
        prompt: str = self._processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}],
            add_generation_prompt=True,
            tokenize=False,
        )
        return prompt

    def _inputs(self, requests: Sequence[ChoiceRequest] | Sequence[ListRequest]) -> dict[str, Tensor]:
        texts = [self._prompt(request.text) for request in requests]
        images = [[request.image] for request in requests]
        inputs = self._processor(text=texts, images=images, return_tensors="pt", padding=True).to(self._device)
        # Pixels arrive as float32; the weights may be half precision.
        cast: dict[str, Tensor] = {
            name: value.to(self._network.dtype) if value.is_floating_point() else value
            for name, value in inputs.items()
        }
        return cast
