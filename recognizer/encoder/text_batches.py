"""Encode texts in batches of one padded length each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from recognizer.encoder.towers import TextTower

BUCKET_STEP = 8  # tokens; finer steps save padding but make more, smaller batches
TOKENS_PER_BATCH = 2048  # larger batches fall out of the CPU's cache, smaller ones leave it idle
ROW_STEP = 16  # below this, matrix kernels for few rows round differently


def bucket_length(tokens: int, context_length: int) -> int:
    """Padded length of a text: its own length rounded up to a multiple of 8, at most the context.

    A text is never padded to its longest neighbour: in bf16 the padded length moves a vector by up to 2e-3.
    """
    return min(-(-tokens // BUCKET_STEP) * BUCKET_STEP, context_length)


def encode_in_buckets(tower: TextTower, texts: Sequence[str], *, device: torch.device) -> NDArray[np.float32]:
    """Encode texts, every distinct one once.

    A text's vector depends on no other text: batches hold one padded length, and a batch that is not full is
    filled up to a multiple of 16 rows, so that the same kernels compute every row whatever its neighbours are.

    Args:
        tower: Encodes the texts.
        texts: Any number of texts, in any order, with repetitions.
        device: Where the tower is.

    Returns:
        (N, D) float32 unit rows, in the order of `texts`.
    """
    distinct = list(dict.fromkeys(texts))
    vectors = np.empty((len(distinct), tower.dim), dtype=np.float32)
    with torch.inference_mode():
        for rows, tokens in padded_batches(tower, tower.tokenize(distinct)):
            encoded = tower.forward(tokens.to(device))[: len(rows)].float()
            vectors[rows] = F.normalize(encoded, dim=-1).cpu().numpy()
    row_of = {text: row for row, text in enumerate(distinct)}
    return vectors[[row_of[text] for text in texts]]


def padded_batches(tower: TextTower, sequences: list[list[int]]) -> Iterator[tuple[list[int], Tensor]]:
    """Yield the row numbers of a batch and its (N, L) padded tokens, N at least the number of rows."""
    rows_of_length: dict[int, list[int]] = defaultdict(list)
    for row, sequence in enumerate(sequences):
        rows_of_length[bucket_length(len(sequence), tower.context_length)].append(row)
    for length, rows in sorted(rows_of_length.items()):
        capacity = max(ROW_STEP, TOKENS_PER_BATCH // length // ROW_STEP * ROW_STEP)
        for start in range(0, len(rows), capacity):
            chosen = rows[start : start + capacity]
            tokens = torch.full((-(-len(chosen) // ROW_STEP) * ROW_STEP, length), tower.pad_id, dtype=torch.int64)
            for position, row in enumerate(chosen):
                tokens[position, : len(sequences[row])] = torch.tensor(sequences[row])
            tokens[len(chosen) :] = tokens[0]
            yield chosen, tokens
