"""Recognising images: an encoder looks, a memory recalls, the score decides, and the evidence says why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from memory import Memory
from recognizer.encoder import Encoder, ImageFeatures
from recognizer.evidence import explain
from recognizer.memory_settings import carried_settings
from recognizer.results.row import CandidateRow, ResultRow
from recognizer.retrieval import Retrieved, make_retriever
from recognizer.score import Scorer
from recognizer.settings import Settings, load_settings

if TYPE_CHECKING:
    from recognizer.results.row import EvidenceRow

REFERENCE_PHOTOS = Path(__file__).parent / "demo_data" / "photos"


class Recognizer:
    """Recognises images against the categories of one memory.

    Args:
        encoder: the one that built the memory.
        memory: an opened memory.
        settings: score weights and the rest; by default what the memory carries over the built-in defaults.

    Raises:
        EncoderMismatch: the memory was built by another encoder; the message names both.
    """

    def __init__(self, encoder: Encoder, memory: Memory, *, settings: Settings | None = None) -> None:
        """Check that encoder and memory belong together, and choose the search."""
        memory.require_encoder(encoder.card)
        self.encoder = encoder
        self.memory = memory
        self.settings = settings or load_settings(base=carried_settings(memory))
        reference = reference_features(encoder) if self.settings.score.center else None
        self.scorer = Scorer(memory.vectors, self.settings.score, reference=reference)
        index = self.settings.run.index
        temperature = self.settings.score.temperature or encoder.default_temperature
        approximate = index == "hnsw" or (index == "auto" and memory.index_kind == "hnsw")
        self.retriever = make_retriever(memory, self.scorer, temperature=temperature, approximate=approximate)

    @classmethod
    def open(
        cls,
        memory: Memory | str | Path,
        *,
        settings: Settings | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> Recognizer:
        """Load the encoder that a memory names.

        Args:
            memory: a memory, or its directory.
            settings: as for the class.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
            precision: `auto`, `fp32` or `bf16`.
        """
        opened = memory if isinstance(memory, Memory) else Memory.open(memory)
        return cls(
            Encoder.from_spec(opened.encoder.spec, device=device, precision=precision), opened, settings=settings
        )

    def recognize(self, images: Sequence[Image.Image], *, keys: Sequence[str] | None = None) -> list[ResultRow]:
        """Recognise images that are in memory already.

        Args:
            images: any Pillow modes; boxes of the evidence are in pixels of each image.
            keys: the `path` of each row; by default the image's number.
        """
        keys = keys or [str(number) for number in range(len(images))]
        return self.rows(self.encoder.encode_images(list(images)), keys) if images else []

    def rows(
        self,
        features: ImageFeatures,
        keys: Sequence[str],
        *,
        keys_base64: Sequence[str | None] | None = None,
        exclude: Sequence[str] = (),
    ) -> list[ResultRow]:
        """Turn features into rows of the results.

        Args:
            features: of B images.
            keys: (B,) the `path` of each row.
            keys_base64: (B,) its bytes where it is not UTF-8.
            exclude: per image the file hash whose exemplars are left out; empty: none.
        """
        found = self.retriever.retrieve(features, self.settings.run.top_k, exclude=exclude)
        encoded = keys_base64 or [None] * len(keys)
        rows = []
        for image, (key, key_base64, retrieved) in enumerate(zip(keys, encoded, found, strict=True)):
            evidence = explain(self.scorer, features, image, retrieved.rows.tolist(), exclude=exclude)
            rows.append(self._row(key, key_base64, retrieved, evidence))
        return rows

    def _row(
        self, key: str, key_base64: str | None, retrieved: Retrieved, evidence: Sequence[Sequence[EvidenceRow]]
    ) -> ResultRow:
        score, keep = self.settings.score, self.settings.run.evidence or None
        categories = [self.memory.vectors.categories[row] for row in retrieved.rows.tolist()]
        candidates = [
            CandidateRow(
                category=category.name,
                group=category.group,
                score=float(value),
                confidence=float(confidence),
                evidence=pieces[:keep],
            )
            for category, value, confidence, pieces in zip(
                categories, retrieved.scores, retrieved.confidences, evidence, strict=True
            )
        ]
        best = candidates[0] if candidates else None
        unknown = None
        if score.calibrated and score.unknown_threshold is not None:
            unknown = best is None or best.confidence < score.unknown_threshold
        return ResultRow(
            path=key,
            path_b64=key_base64,
            label=best.category if best else None,
            confidence=best.confidence if best else None,
            calibrated=score.calibrated,
            unknown=unknown,
            candidates=candidates,
        )


def reference_features(encoder: Encoder) -> ImageFeatures:
    """Encode the fixed reference set for `score.center`: the photographs that ship with the package."""
    photos = [Image.open(path).convert("RGB") for path in sorted(REFERENCE_PHOTOS.glob("*.jpg"))]
    return encoder.encode_images(photos)
