"""The text towers of open_clip models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recognizer.encoder.towers import Network, Tokenizer

_PROBES = ("a photo of a CAT.", "Größe, ½ & 3,5 mm", "the  quick\tbrown_fox's tail", "word " * 300)


class CausalTextTower:
    """A CLIP text transformer, with the context cut to each batch's own length.

    Under a causal mask no token sees what follows it, and the text's vector is read at its end token, so
    leaving out the padding behind it changes nothing. open_clip's `encode_text` insists on the full context;
    here `positional_embedding` and `attn_mask` are sliced to the batch.
    """

    pad_id = 0

    def __init__(self, model: Network, tokenizer: Tokenizer) -> None:
        """Take the text half of `model`, an open_clip `CLIP` or the `TextTransformer` of a `CustomTextCLIP`."""
        self._model = model
        self.context_length = int(self._model.positional_embedding.shape[0])
        pool_type = model.text_pool_type if hasattr(model, "text_pool_type") else model.pool_type
        eos_id = model.text_eos_id if hasattr(model, "text_eos_id") else model.eos_id
        self.tokenize = TokensToTheEnd(tokenizer, self.context_length, eos_id if pool_type == "eos" else None)
        self.network: nn.Module = text_half(model)
        self.dim = _text_dim(self._model)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut to the context."""
        return self.tokenize.count(texts)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L) token ids to (N, D) vectors."""
        model, length = self._model, tokens.shape[1]
        dtype = model.transformer.get_cast_dtype()
        x = model.token_embedding(tokens).to(dtype) + model.positional_embedding[:length].to(dtype)
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
        x = model.ln_final(x[torch.arange(x.shape[0], device=x.device), self.tokenize.ends(tokens)])
        projection = model.text_projection
        if isinstance(projection, nn.Linear):
            x = projection(x)
        elif projection is not None:
            x = x @ projection
        encoded: Tensor = x.float()
        return encoded


@dataclass(frozen=True, slots=True)
class TokensToTheEnd:
    """Tokenises texts for a `CausalTextTower`.

    Attributes:
        tokenizer: of open_clip.
        context_length: the most tokens of one text.
        eos_id: the end token; None: that of the largest id.
    """

    tokenizer: Tokenizer
    context_length: int
    eos_id: int | None

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text up to its end token."""
        if not texts:
            return []
        tokens = self.tokenizer(list(texts), context_length=self.context_length)
        return [row[: end + 1] for row, end in zip(tokens.tolist(), self.ends(tokens).tolist(), strict=True)]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut to the context."""
        return count_tokens(self.tokenizer, texts)

    def describe(self) -> dict[str, Any]:
        """Describe the tokenizer for a fingerprint."""
        return describe_tokenizer(self.tokenizer)

    def ends(self, tokens: Tensor) -> Tensor:
        """Position of each row's end token, as open_clip's pooling finds it."""
        return (tokens if self.eos_id is None else (tokens == self.eos_id).int()).argmax(dim=-1)


@dataclass(frozen=True, slots=True)
class FullContextTokens:
    """Tokenises texts for a `FullContextTextTower`: the model's own tokenizer pads them to the full context."""

    tokenizer: Tokenizer

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, all of one length."""
        return [list(row) for row in self.tokenizer(list(texts)).tolist()] if texts else []

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut to the context."""
        return count_tokens(self.tokenizer, texts)

    def describe(self) -> dict[str, Any]:
        """Describe the tokenizer for a fingerprint."""
        return describe_tokenizer(self.tokenizer)


class FullContextTextTower:
    """Any other open_clip text tower, at the full context length its model was trained with.

    SigLIP, MobileCLIP and CoCa attend to the padding, so cutting it would change the vector.
    """

    def __init__(self, model: Network, tokenizer: Tokenizer, dim: int) -> None:
        """Take an open_clip model with `encode_text`, its tokenizer and the dimensions of its joint space."""
        self._model = model
        self.tokenize = FullContextTokens(tokenizer)
        self.context_length = int(tokenizer.context_length)
        self.network: nn.Module = text_half(model)
        self.pad_id = 0
        self.dim = dim

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before it is cut to the context."""
        return self.tokenize.count(texts)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, context) token ids to (N, D) vectors."""
        encoded: Tensor = self._model.encode_text(tokens)
        return encoded.float()


class TextHalf(nn.Module):
    """The text weights of a CLIP, which holds those of both towers."""

    def __init__(self, model: Network) -> None:
        """Share the weights of `model`."""
        super().__init__()
        for name in ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection"):
            setattr(self, name, getattr(model, name))


def text_half(model: Network) -> nn.Module:
    """Return the weights of an open_clip model, or of its text transformer, that encode texts."""
    half: nn.Module = model.text if hasattr(model, "text") else TextHalf(model) if hasattr(model, "visual") else model
    return half


def build_text_tower(model: Network, tokenizer: Tokenizer, dim: int) -> CausalTextTower | FullContextTextTower:
    """Choose the tower that is exact for `model`: the context is cut to the batch only where attention is causal."""
    text = model if hasattr(model, "token_embedding") else getattr(model, "text", None)
    causal = getattr(text, "attn_mask", None) is not None and getattr(text, "cls_emb", None) is None
    pool_type = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    if causal and pool_type in ("argmax", "eos") and hasattr(tokenizer, "encode"):
        return CausalTextTower(text, tokenizer)
    return FullContextTextTower(model, tokenizer, dim)


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Tokens of each text under an open_clip tokenizer, special tokens included, nothing cut."""
    if hasattr(tokenizer, "encode"):
        return [len(tokenizer.encode(text)) + 2 for text in texts]
    clean = getattr(tokenizer, "clean_fn", str)
    return [len(tokenizer.tokenizer(clean(text), truncation=False, verbose=False).input_ids) for text in texts]


def describe_tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    """Describe an open_clip tokenizer for the fingerprint: its vocabulary, and its tokens of some awkward texts."""
    vocabulary = tokenizer.encoder if hasattr(tokenizer, "encoder") else tokenizer.tokenizer.get_vocab()
    return {
        "kind": type(tokenizer).__name__,
        "context_length": tokenizer.context_length,
        "vocabulary": hashlib.sha256(json.dumps(vocabulary, sort_keys=True).encode()).hexdigest(),
        "probes": tokenizer(list(_PROBES)).tolist(),
    }


def _text_dim(model: Network) -> int:
    projection = model.text_projection
    if projection is None:
        return int(model.ln_final.weight.shape[0])
    return int(projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1])
