"""How good guessed names are: cACC counts images that are grouped right, sACC how near the names are in meaning.

Both are the measures of FineR and RAR (arXiv 2403.13805): a guessed name that is not the true one word for word can
still be right for a whole class, or nearly right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from memory.templates import prompt_name
from recognizer.encoder.errors import EncoderUnavailable
from recognizer.encoder.starter.minilm import MiniLM
from recognizer.encoder.starter.weights import starter_text_folder
from recognizer.encoder.text_batches import encode_in_buckets

if TYPE_CHECKING:
    from recognizer.encoder import Encoder

EncodeTexts = Callable[[Sequence[str]], NDArray[np.float32]]
"""Takes N texts, returns (N, D) float32 unit rows."""

SENTENCE_MODEL = "all-MiniLM-L6-v2"


def cluster_accuracy(predicted: Sequence[str], truth: Sequence[str]) -> float:
    """Return cACC: the share of images that are right when every name stands for the class that suits all of them best.

    Images of one predicted name are a cluster. Each cluster is matched with one class at most, and each class with one
    cluster, so that as many images as possible are in the cluster of their class.

    Args:
        predicted: (N) names, N >= 1.
        truth: (N) true names.
    """
    _, clusters = np.unique(predicted, return_inverse=True)
    _, classes = np.unique(truth, return_inverse=True)
    counts = np.zeros((clusters.max() + 1, classes.max() + 1), np.int64)
    np.add.at(counts, (clusters, classes), 1)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(predicted))


def semantic_accuracy(predicted: Sequence[str], truth: Sequence[str], encode: EncodeTexts) -> float:
    """Return sACC: the mean cosine of predicted and true names, which are read as words.

    Args:
        predicted: (N) names, N >= 1.
        truth: (N) true names.
        encode: a sentence encoder.
    """
    vectors = encode([prompt_name(name) for name in (*predicted, *truth)])
    return float((vectors[: len(predicted)] * vectors[len(predicted) :]).sum(1).mean())


def sentence_encoder(encoder: Encoder) -> tuple[str, EncodeTexts]:
    """Return name and function of what compares names: MiniLM where it is installed, else the encoder's text tower.

    Args:
        encoder: whose text tower is the second choice. Cosines of two encoders cannot be compared.
    """
    try:
        folder = starter_text_folder()
    except EncoderUnavailable:
        return f"text tower of {encoder.card.name}", encoder.encode_texts
    device = torch.device("cpu")
    return SENTENCE_MODEL, partial(encode_in_buckets, MiniLM.load(folder, device), device=device)
