"""What surrounds the networks of an encoder: with it an exported encoder runs without reading its torch weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

from recognizer.encoder.errors import EncoderError
from recognizer.encoder.open_clip.text import FullContextTokens, TokensToTheEnd
from recognizer.encoder.parts import EncoderParts
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.starter.minilm import SentenceTokens
from recognizer.encoder.trained_file import TrainedFile

Tokens: TypeAlias = SentenceTokens | TokensToTheEnd | FullContextTokens


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an encoder has beside its networks.

    Attributes:
        preprocessing: How pictures become pixels.
        templates: As `EncoderParts` has them, like the next one.
        temperature: Divides cosines.
        region_source: Where region vectors come from, in words for people.
        base: Spec of the encoder before any training, whose tokenizer is used.
        context_length: The largest number of tokens of one text.
        pad_id: Token that fills a sequence up.
        to_the_end: Whether texts of an open_clip model end at their end token.
        eos_id: That token; None: the one of the largest id.
        tokenizer: Hexadecimal sha256 of the description of the tokenizer.
    """

    preprocessing: Preprocessing
    templates: tuple[str, ...]
    temperature: float
    region_source: str
    base: dict[str, Any]
    context_length: int
    pad_id: int
    to_the_end: bool
    eos_id: int | None
    tokenizer: str

    @classmethod
    def of(cls, parts: EncoderParts) -> Self:
        """Take them from an encoder on torch."""
        tower = parts.text_tower
        tokens = tower.tokenize
        assert isinstance(tokens, Tokens)
        base = parts.spec
        while base["kind"] == "trained":
            base = dict(TrainedFile.read(Path(base["file"])).base)
        return cls(
            preprocessing=parts.preprocessing,
            templates=parts.templates,
            temperature=parts.temperature,
            region_source=parts.region_source,
            base=base,
            context_length=tower.context_length,
            pad_id=tower.pad_id,
            to_the_end=isinstance(tokens, TokensToTheEnd),
            eos_id=tokens.eos_id if isinstance(tokens, TokensToTheEnd) else None,
            tokenizer=_digest(tokens),
        )

    def to_json(self) -> dict[str, Any]:
        """Return them as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read the values that `to_json` returns.

        Raises:
            KeyError, TypeError: Values of another shape.
        """
        seen = value["preprocessing"]
        lists = {name: tuple(seen[name]) for name in ("size_hw", "mean", "std")}
        return cls(
            **{**value, "preprocessing": Preprocessing(**{**seen, **lists}), "templates": tuple(value["templates"])}
        )

    def tokens(self) -> Tokens:
        """Make the tokenizer.

        Raises:
            EncoderUnavailable: A file of it is missing.
            EncoderError: It is another one than that of the export.
        """
        tokens: Tokens
        if self.base["kind"] == "open_clip":
            from recognizer.encoder.open_clip.model import build_tokenizer

            tokenizer = build_tokenizer(self.base["model"])
            of_clip = TokensToTheEnd(tokenizer, self.context_length, self.eos_id)
            tokens = of_clip if self.to_the_end else FullContextTokens(tokenizer)
        else:
            from recognizer.encoder.starter.weights import starter_tokenizer

            tokens = SentenceTokens.load(starter_tokenizer())
        if _digest(tokens) != self.tokenizer:
            raise EncoderError(
                "the tokenizer that is installed is not the one that the encoder was exported with; export it again"
            )
        return tokens


def _digest(tokens: Tokens) -> str:
    return hashlib.sha256(json.dumps(tokens.describe(), sort_keys=True).encode()).hexdigest()
