"""A multimodal LLM that transformers runs in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from rerank.backends.local import SymbolIds, read_choice, symbol_ids, weights_identity
from rerank.backends.prefix import PrefixedNetwork, Prefixes, shared_length, without_ends
from rerank.mllm import SYMBOLS, Choice, ChoiceRequest, Failure, MllmUnavailable, Reply, Usage, WriteRequest

if TYPE_CHECKING:
    from torch import Tensor

Request = TypeVar("Request", ChoiceRequest, WriteRequest)
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
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            # Without a connection each file is tried for half a minute, and a processor has five; one file is enough.
            AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
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
        # Of the last batch, for `auto` asks about the same images again.
        self._begun: Prefixes | None = None
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

    def write(self, requests: Sequence[WriteRequest]) -> list[Reply | Failure]:
        """Answer each request in text, greedily; schemas are not enforced."""
        replies: dict[int, Reply | Failure] = {}
        # Processors take no batch in which some prompts have an image and others have none.
        for with_image in (True, False):
            places = [place for place, request in enumerate(requests) if (request.image is not None) == with_image]
            answers = self._in_batches([[requests[place]] for place in places], self._write_batch)
            replies |= {place: reply for place, (reply,) in zip(places, answers, strict=True)}
        return [replies[place] for place in range(len(requests))]

    def close(self) -> None:
        """Release the weights."""
        self._network = self._begun = None
        self._prefixed.close()

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
                    self._begun = None
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
        prompts = [self._tokenizer([self._prompt(request.text) for request in group])["input_ids"] for group in groups]
        rows = self._begun.rows([group[0].image for group in groups], prompts) if self._begun is not None else None
        if rows is None:
            self._begun = None  # its memory is needed
            self._begun = self._begin([group[0] for group in groups], prompts)
            rows = list(range(len(groups)))
        begun = self._begun
        if begun is None:  # a prompt alone has no rest, so this ends
            return [[self._choose_batch([[request]])[0][0] for request in group] for group in groups]
        asked = [
            (row, request, prompt[len(begun.tokens[row]) :])
            for row, group, each in zip(rows, groups, prompts, strict=True)
            for request, prompt in zip(group, each, strict=True)
        ]
        found = self._prefixed.go_on(begun, [row for row, _, _ in asked], [rest for *_, rest in asked], self.parallel)
        lengths = begun.mask.sum(1).tolist()
        answers = iter(
            self._read(logits, request, lengths[row] + len(rest))
            for logits, (row, request, rest) in zip(found, asked, strict=True)
        )
        return [[next(answers) for _ in group] for group in groups]

    def _begin(self, first: Sequence[ChoiceRequest], prompts: Sequence[Sequence[Sequence[int]]]) -> Prefixes | None:
        """Compute what the prompts about each image begin with.

        Args:
            first: request about each image.
            prompts: tokens of all prompts about each image, in which one token stands for the image.

        Returns:
            None where the image comes after text that differs, so that nothing useful is shared.
        """
        inputs = self._inputs(first)
        tokens = [each[0][: shared_length(each)] for each in prompts]
        # The processor puts many tokens in the place of the image, so prompts are compared from their ends.
        ends = [each[0][len(shared) :] for each, shared in zip(prompts, tokens, strict=True)]
        whole = inputs["input_ids"].tolist()
        if any(ids[len(ids) - len(end) :] != end for ids, end in zip(whole, ends, strict=True)):
            return None
        shortened = without_ends(inputs, [len(end) for end in ends], self._tokenizer.pad_token_id)
        return self._prefixed.begin(shortened, [request.image for request in first], tokens)

    def _read(self, logits: Tensor, request: ChoiceRequest, tokens: int) -> Choice | Failure:
        log_probs = logits.float().log_softmax(-1).cpu().numpy()
        if not np.isfinite(log_probs).any():
            return Failure("unreadable: the model's log-probabilities are not finite")
        return read_choice(log_probs.__getitem__, self._ids, request.symbols, Usage(tokens, 1))

    def _write_batch(self, groups: Sequence[Sequence[WriteRequest]]) -> list[list[Reply | Failure]]:
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

    def _prompt(self, text: str, *, image: bool = True) -> str:
        parts = [{"type": "image"}] if image else []
        prompt: str = self._processor.apply_chat_template(
            [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}],
            add_generation_prompt=True,
            tokenize=False,
        )
        return prompt

    def _inputs(self, requests: Sequence[ChoiceRequest] | Sequence[WriteRequest]) -> dict[str, Tensor]:
        texts = [self._prompt(request.text, image=request.image is not None) for request in requests]
        images = [[request.image] for request in requests if request.image is not None] or None
        inputs = self._processor(text=texts, images=images, return_tensors="pt", padding=True).to(self._device)
        # Pixels arrive as float32; the weights may be half precision.
        cast: dict[str, Tensor] = {
            name: value.to(self._network.dtype) if value.is_floating_point() else value
            for name, value in inputs.items()
        }
        return cast
