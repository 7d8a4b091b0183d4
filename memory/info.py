"""What a memory holds, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memory.encoder_card import EncoderCard
from memory.manifest import Manifest


@dataclass(frozen=True, slots=True)
class MemoryInfo:
    """What a memory holds.

    Attributes:
        directory: where it is.
        version: grows by one with every change of its tables.
        categories: number of categories.
        descriptions: number of descriptions.
        exemplars: number of example images.
        negatives: number of candidates for negative labels.
        encoder: the encoder that made it.
        templates: the templates that names and descriptions were put into.
        dim: dimension of the vectors.
        bytes_on_disk: size of all files in the directory.
        index: "exact", "hnsw", "ivf" or "lance".
        index_recall: what was measured of approximate search against exact search; empty when exact or not measured.
    """

    directory: str
    version: int
    categories: int
    descriptions: int
    exemplars: int
    negatives: int
    encoder: EncoderCard
    templates: tuple[str, ...]
    dim: int
    bytes_on_disk: int
    index: str
    index_recall: Mapping[str, float]

    @classmethod
    def of(cls, directory: Path, manifest: Manifest) -> MemoryInfo:
        """Read the numbers from a manifest, and the size from the disk."""
        return cls(
            directory=str(directory),
            version=manifest.version,
            categories=manifest.rows("categories"),
            descriptions=manifest.rows("descriptions"),
            exemplars=manifest.rows("exemplars"),
            negatives=manifest.rows("negatives"),
            encoder=manifest.encoder,
            templates=manifest.templates,
            dim=manifest.encoder.dim,
            bytes_on_disk=sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
            index=manifest.index.kind,
            index_recall=dict(manifest.index.recall),
        )
