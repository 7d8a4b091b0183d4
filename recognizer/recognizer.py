"""Recognising images: an encoder looks, a memory recalls, the score decides, and the evidence says why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from memory import Memory
from recognizer.encoder import Encoder, ImageFeatures
from recognizer.evidence import explain
from recognizer.images import ImageItem
from recognizer.memory_settings import carried_settings
from recognizer.results.row import CandidateRow, ResultRow
from recognizer.retrieval import Retrieved, make_retriever
from recognizer.score import Scorer
from recognizer.settings import Settings, load_settings

if TYPE_CHECKING:
    from recognizer.results.row import EvidenceRow


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
        self.scorer = Scorer(memory.vectors, self.settings.score)
        temperature = self.settings.score.temperature or encoder.default_temperature
        wanted = self.settings.run.index
        index = memory.index_kind if wanted == "auto" else wanted
        self.retriever = make_retriever(memory, self.scorer, temperature=temperature, approximate=index == "hnsw")

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
        if not images:
            return []
        keys = keys or [str(number) for number in range(len(images))]
        items = [ImageItem(os.fsencode(key), os.fsencode(key)) for key in keys]
        return self.rows(self.encoder.encode_images(list(images)), items)

    def rows(
        self, features: ImageFeatures, items: Sequence[ImageItem], *, exclude: Sequence[str] = ()
    ) -> list[ResultRow]:
        """Turn features into rows of the results.

        Args:
            features: of B images.
            items: (B,) the images; only their keys are read.
            exclude: per image the file hash whose exemplars are left out; empty: none.
        """
        retrieved = self.retriever.retrieve(features, self.settings.run.top_k, exclude=exclude)
        rows = []
        for image, (item, best) in enumerate(zip(items, retrieved, strict=True)):
            evidence = explain(self.scorer, features, image, best.rows.tolist(), exclude=exclude)
            rows.append(self._row(item, best, evidence))
        return rows

    def _row(self, item: ImageItem, retrieved: Retrieved, evidence: Sequence[Sequence[EvidenceRow]]) -> ResultRow:
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
            path=item.key,
            path_b64=item.key_base64,
            label=best.category if best else None,
            confidence=best.confidence if best else None,
            calibrated=score.calibrated,
            unknown=unknown,
            candidates=candidates,
        )
