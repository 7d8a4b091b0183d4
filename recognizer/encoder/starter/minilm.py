"""The MiniLM sentence encoder, read from a local folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from recognizer.encoder.towers import Tokenizer

_SEQUENCE_LENGTH = 256  # all-MiniLM-L6-v2 was trained with it; the network has 512 positions


@dataclass(frozen=True, slots=True)
class SentenceTokens:
    """Tokenises texts for MiniLM.

    Attributes:
        tokenizer: A `tokenizers.Tokenizer` without truncation and padding.
    """

    tokenizer: Tokenizer

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read `tokenizer.json`."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; one that is too long keeps its first tokens and its end token."""
        sequences = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        longest = _SEQUENCE_LENGTH
        return [ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]] for ids in sequences]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut to the context."""
        return [len(encoding.ids) for encoding in self.tokenizer.encode_batch(list(texts))]

    def describe(self) -> dict[str, Any]:
        """The tokenizer's own complete description, with the context length."""
        return {"context_length": _SEQUENCE_LENGTH, "tokenizer": json.loads(self.tokenizer.to_str())}


class MiniLM:
    """BERT with mean pooling and unit length, as sentence-transformers computes all-MiniLM-L6-v2.

    The forward pass is written out over the checkpoint's own tensor names: six layers need no framework, and
    loading `transformers` takes longer than encoding a thousand names.
    """

    pad_id = 0
    context_length = _SEQUENCE_LENGTH
    network = None

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], tokens: SentenceTokens) -> None:
        """Take the weights, on their device and in their format.

        Args:
            config: `config.json` of the checkpoint.
            tensors: `model.safetensors` of the checkpoint, fp32 or bf16.
            tokens: Its tokenizer.
        """
        self._layers = int(config["num_hidden_layers"])
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._tensors = dict(tensors)
        self.tokenize = tokens
        self.dim = int(config["hidden_size"])

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> MiniLM:
        """Read `config.json`, `model.safetensors` and `tokenizer.json` from a folder, in fp32."""
        from safetensors.torch import load_file

        tokens = SentenceTokens.load(folder / "tokenizer.json")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return cls(config, load_file(folder / "model.safetensors", device=str(device)), tokens)

    def cast(self, dtype: torch.dtype) -> MiniLM:
        """Return the same encoder with its floating-point weights in another format."""
        clone = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        clone._tensors = {n: t.to(dtype) if t.is_floating_point() else t for n, t in self._tensors.items()}
        return clone

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut to the context."""
        return self.tokenize.count(texts)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L) token ids, 0 where padded, to (N, D) float32 unit rows."""
        mask = tokens != self.pad_id
        x = self._embed(tokens)
        for layer in range(self._layers):
            x = self._block(f"encoder.layer.{layer}", x, mask[:, None, None])
        weights = mask[..., None].float()
        return F.normalize((x.float() * weights).sum(dim=1) / weights.sum(dim=1), dim=-1)

    def _embed(self, tokens: Tensor) -> Tensor:
        tensors = self._tensors
        x = F.embedding(tokens, tensors["embeddings.word_embeddings.weight"])
        x = x + tensors["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        return self._norm("embeddings.LayerNorm", x + tensors["embeddings.token_type_embeddings.weight"][0])

    def _block(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            self._linear(f"{name}.attention.self.{part}", x).view(*x.shape[:2], self._heads, -1).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
        x = self._norm(
            f"{name}.attention.output.LayerNorm", x + self._linear(f"{name}.attention.output.dense", context)
        )
        hidden = F.gelu(self._linear(f"{name}.intermediate.dense", x))
        return self._norm(f"{name}.output.LayerNorm", x + self._linear(f"{name}.output.dense", hidden))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        weight = self._tensors[f"{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, self._tensors[f"{name}.bias"], self._epsilon)


class DeferredMiniLM:
    """A MiniLM that is loaded at the first text: recognising images takes none."""

    pad_id = MiniLM.pad_id
    context_length = MiniLM.context_length
    network = MiniLM.network

    def __init__(self, load: Callable[[], MiniLM]) -> None:
        """Keep what loads it."""
        self._load = load

    @cached_property
    def _loaded(self) -> MiniLM:
        return self._load()

    @property
    def dim(self) -> int:
        """D of the encoder."""
        return self._loaded.dim

    @property
    def tokenize(self) -> SentenceTokens:
        """Its tokenizer."""
        return self._loaded.tokenize

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As the encoder does."""
        return self._loaded.count_tokens(texts)

    def forward(self, tokens: Tensor) -> Tensor:
        """As the encoder does."""
        return self._loaded.forward(tokens)
