"""A memory as JSON lines, which are a label file too; the same content gives the same bytes."""

from __future__ import annotations

import base64
import json
from typing import Any, TextIO

import numpy as np

from memory.vectors import Matrix, MemoryVectors


def export_memory(stored: MemoryVectors, stream: TextIO, *, vectors: bool = False) -> None:
    r"""Write one JSON object for each category, sorted by category id.

    Args:
        stored: the content of a memory.
        stream: a text stream; open it with UTF-8 and ``\n`` as line end for the same bytes everywhere.
        vectors: also write the vectors (base64 of little-endian float32 rows) and the hashes of the exemplars.
    """
    for row, category in enumerate(stored.categories):
        line: dict[str, Any] = {
            "name": category.name,
            "group": category.group,
            "descriptions": [{"text": d.text, "kind": d.kind, "source": d.source} for d in category.descriptions],
            "metadata": dict(sorted(category.metadata.items())),
        }
        if category.aliases:
            line["aliases"] = list(category.aliases)
        if vectors:
            own_descriptions = slice(stored.offsets[row], stored.offsets[row + 1])
            own_exemplars = slice(stored.exemplar_offsets[row], stored.exemplar_offsets[row + 1])
            line["vectors"] = {
                "name": _base64(stored.names[row]),
                "grounded": _base64(stored.grounded[own_descriptions]),
                "bare": _base64(stored.bare[own_descriptions]),
                "exemplars": _base64(stored.exemplars[own_exemplars]),
            }
            line["exemplar_hashes"] = list(stored.exemplar_hashes[own_exemplars])
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _base64(rows: Matrix) -> str:
    return base64.b64encode(np.ascontiguousarray(rows, "<f4").tobytes()).decode("ascii")
