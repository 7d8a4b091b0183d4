"""Encoding texts in training: every distinct text of a batch once, with gradient or from a cache."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recognizer.encoder.text_batches import bucket_length, encode_in_buckets
from recognizer.encoder.towers import TextTower

Tokens = Mapping[str, list[int]]
"""Token ids by text."""
_NONE: Tokens = {}
_MOST_CACHED = 100_000  # vectors of a frozen tower: 200 MB at 512 dimensions


class TextReader(Protocol):
    """Encodes texts."""

    def read(self, texts: Sequence[str], tokens: Tokens = _NONE) -> Tensor:
        """Return (N, D) float32 unit rows, in the order of the texts.

        Args:
            texts: N of them.
            tokens: ids of some of the texts, so that they need not be tokenised here.
        """
        ...


class FrozenReader:
    """A frozen tower: its vectors are cached from step to step; the least recently used are dropped."""

    def __init__(self, tower: TextTower, device: torch.device, *, most: int = _MOST_CACHED) -> None:
        """Start with an empty cache.

        Args:
            tower: encodes the texts.
            device: where the tower is.
            most: largest number of cached vectors.
        """
        self._tower, self._device, self._most = tower, device, most
        self._cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def read(self, texts: Sequence[str], tokens: Tokens = _NONE) -> Tensor:
        """Return (N, D) float32 unit rows without gradient; a row depends on its own text alone.

        The cache knows most texts, so `tokens` would save nothing.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._cache]
        if new:
            with torch.autocast(self._device.type, enabled=False):
                self._cache.update(zip(new, encode_in_buckets(self._tower, new, device=self._device), strict=True))
        rows = np.empty((len(texts), self._tower.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            rows[row] = self._cache[text]
            self._cache.move_to_end(text)
        while len(self._cache) > self._most:
            self._cache.popitem(last=False)
        return torch.from_numpy(rows).to(self._device, non_blocking=True)


class LearningReader:
    """A tower that is trained: texts of one padded length share a forward pass with gradient."""

    def __init__(self, tower: TextTower, device: torch.device) -> None:
        """Take the tower and its device."""
        self._tower, self._device = tower, device

    def read(self, texts: Sequence[str], tokens: Tokens = _NONE) -> Tensor:
        """Return (N, D) float32 unit rows with gradient."""
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        if not row_of:
            return torch.zeros(0, self._tower.dim, device=self._device)
        new = [text for text in row_of if text not in tokens]
        made = dict(zip(new, self._tower.tokenize(new), strict=True))
        sequences = [made[text] if text in made else tokens[text] for text in row_of]
        rows_of_length: dict[int, list[int]] = defaultdict(list)
        for row, sequence in enumerate(sequences):
            rows_of_length[bucket_length(len(sequence), self._tower.context_length)].append(row)
        encoded = []
        for length, rows in sorted(rows_of_length.items()):
            padded = [sequences[row] + [self._tower.pad_id] * (length - len(sequences[row])) for row in rows]
            encoded.append(self._tower.forward(torch.tensor(padded).to(self._device, non_blocking=True)))
        order = torch.tensor([row for _, rows in sorted(rows_of_length.items()) for row in rows])
        # argsort of the order in which rows were encoded is where each row lies in the concatenation
        wanted = torch.argsort(order)[torch.tensor([row_of[text] for text in texts])]
        return functional.normalize(torch.cat(encoded).float(), dim=-1)[wanted.to(self._device, non_blocking=True)]
