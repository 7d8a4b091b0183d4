"""Other heads, to compare with: GDA, SS-Text+, Tip-Adapter, and the nearest exemplar alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recognizer.heads.residual import Doubles, Floats, Shots

GDA_SPREADS = 3.0
"""Spreads of the score that the term of GDA has over the exemplars. Chosen as `residual.MARGIN` was."""
TIP_SPREADS = 6.0
"""Spreads that one equal exemplar adds in Tip-Adapter. Chosen as `residual.MARGIN` was."""
TIP_BETA = 5.5  # of the paper


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A head that is linear in the image vector.

    Attributes:
        vectors: (C, D) float32.
        biases: (C,) float32.
    """

    vectors: Floats
    biases: Floats

    def term(self, images: Floats) -> Floats:
        """Return (B, C) what is added to the scores of images (B, D)."""
        return images @ self.vectors.T + self.biases


def fit_gda(shots: Shots) -> Linear:
    """Gaussian discriminant analysis with one covariance (arXiv 2402.04087).

    The covariance is that within categories, shrunk towards a sphere as in the paper. It needs several rows of a
    category: at fewer than four exemplars, give augmented views as rows of their own. Where no category has two rows it
    is the sphere. Categories without exemplars get 0.
    """
    total, dim = shots.vectors.shape
    has = np.flatnonzero(shots.counts)
    counts = shots.counts[has]
    order = np.searchsorted(has, shots.labels)
    sums = np.zeros((len(has), dim))
    np.add.at(sums, order, shots.vectors)
    means = sums / counts[:, None]
    within = (shots.vectors - means[order]).astype(np.float64)
    covariance = within.T @ within / max(total - 1, 1)
    trace = float(np.trace(covariance))
    sphere = np.eye(dim)
    precision = dim * np.linalg.inv((total - 1) * covariance + trace * sphere) if trace > 0 else sphere
    centre = means.mean(0)
    directions = (means - centre) @ precision
    biases = -0.5 * np.einsum("cd,cd->c", directions, means + centre)
    term = shots.vectors @ directions.T + biases
    scale = GDA_SPREADS * shots.spread / max(float(term.std()), 1e-12)
    vectors, offsets = np.zeros((len(shots.texts), dim), np.float32), np.zeros(len(shots.texts), np.float32)
    vectors[has], offsets[has] = scale * directions, scale * biases
    return Linear(vectors, offsets)


def fit_sstext(shots: Shots) -> Linear:
    """SS-Text+ (arXiv 2506.17500): w_c = t_c + (n_c / N) sum_c(x) / tau; a category without exemplars keeps its text.

    tau, the temperature in the paper, is the spread.
    """
    sums: Doubles = np.zeros(shots.texts.shape)
    np.add.at(sums, shots.labels, shots.vectors)
    share = shots.counts / len(shots.labels)
    vectors = share[:, None] * sums / max(shots.spread, 1e-12)
    return Linear(vectors.astype(np.float32), np.zeros(len(sums), np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Tip:
    """Tip-Adapter without training (arXiv 2111.03930): the sum of exp(-beta (1 - <x, x_i>)) over a category."""

    shots: Shots

    def term(self, images: Floats) -> Floats:
        """Return (B, C) what is added to the scores of images (B, D)."""
        shots = self.shots
        kernels = np.exp(-TIP_BETA * (1 - images @ shots.vectors.T))
        sums = np.zeros((len(shots.texts), len(images)), np.float32)
        np.add.at(sums, shots.labels, kernels.T)
        return np.float32(TIP_SPREADS * shots.spread) * sums.T


def nearest(shots: Shots, images: Floats) -> Floats:
    """Return (B, C) the cosine of the category's nearest exemplar (RAR's CLIP+KNN), -1 for one without any.

    These are scores of their own, not a term.
    """
    scores = np.full((len(shots.texts), len(images)), -1, np.float32)
    np.maximum.at(scores, shots.labels, (images @ shots.vectors.T).T)
    return scores.T
