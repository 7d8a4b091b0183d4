"""Few-shot heads: what example images of the categories add to the zero-shot scores. Arrays only."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recognizer.heads.baselines import Linear, Tip, fit_gda, fit_sstext, nearest
from recognizer.heads.choice import choose_constants
from recognizer.heads.kernel_ridge import KernelRidge
from recognizer.heads.residual import Floats, Rows, Shots

__all__ = ["HEADS", "Predict", "Shots", "fit"]

Predict = Callable[[Floats, Floats], Floats]
"""(B, D) images and their (B, C) zero-shot scores to (B, C) scores."""


def _adding(head: KernelRidge | Tip | Linear) -> Predict:
    return lambda images, scores: scores + head.term(images)


HEADS: Mapping[str, Callable[[Shots], Predict]] = {
    "auto": lambda shots: _adding(KernelRidge(shots, choose_constants(shots))),
    "proker": lambda shots: _adding(KernelRidge(shots)),
    "gda": lambda shots: _adding(fit_gda(shots)),
    "sstext": lambda shots: _adding(fit_sstext(shots)),
    "tip": lambda shots: _adding(Tip(shots)),
    "nearest": lambda shots: lambda images, _: nearest(shots, images),
}
"""Heads by name; `auto` is ProKeR with constants by leave-one-out."""


def fit(name: str, vectors: Floats, labels: Rows, texts: Floats) -> Predict:
    """Fit a head.

    Args:
        name: of `HEADS`.
        vectors: (n, D) float32 unit rows of the exemplars, n >= 1.
        labels: (n,) int64 category of each, as a row of `texts`.
        texts: (C, D) float32; the zero-shot score of image x for category c by the whole image is <x, texts_c>.
    """
    return HEADS[name](Shots.of(vectors, labels, texts))
