"""Written classifiers in closed form: directions of known names, and the regression from texts to them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from recognizer.encoder.written import Written, WrittenSettings, text_kernel


def discriminants(features: Tensor, rows: Tensor, *, ridge: float) -> Tensor:
    """Return the linear discriminant of each name against all others.

    It is S^-1 (mean of the name - mean of the names), with S the covariance within names (Fisher 1936; for objects:
    Hariharan, Malik and Ramanan, "Discriminative Decorrelation", ECCV 2012). What pictures of one name differ by, such
    as grounds, styles and light, weighs little in it.

    Args:
        features: (P, C) of pictures.
        rows: (P,) int64, the name of each, from 0 to R - 1, every name at least once.
        ridge: added to the diagonal of S, in shares of its mean.

    Returns:
        (R, C) unit rows.
    """
    counts = torch.bincount(rows).to(features)
    means = features.new_zeros(len(counts), features.shape[1]).index_add_(0, rows, features) / counts[:, None]
    within = features - means[rows]
    covariance = within.T @ within / len(features)
    covariance += ridge * covariance.diagonal().mean() * torch.eye(len(covariance))
    return F.normalize(torch.linalg.solve(covariance, (means - means.mean(dim=0)).T).T, dim=-1)


def write(
    texts: Tensor,
    directions: Tensor,
    noise: Tensor,
    mean: Tensor,
    *,
    width: int,
    bandwidth: float,
    share: float,
    temperature: float,
) -> Written:
    """Regress classifiers on texts.

    Kernel ridge regression, whose kernel `Written` has, and the principal directions of what it answers for the known
    texts.

    Args:
        texts: (N, E) unit rows.
        directions: (N, C) unit rows, the classifiers of the texts.
        noise: (N,) how much the regression may miss each: the ridge, row by row.
        mean: (C,) of the features.
        width: W, at most the smaller of N and C.
        bandwidth: of the kernel.
        share: what the classifiers count, out of 1.
        temperature: divides cosines before a softmax over categories.
    """
    kernel = text_kernel(texts, texts, bandwidth)
    coefficients = torch.linalg.solve(kernel + torch.diag(noise), directions)
    answers = F.normalize(kernel @ coefficients, dim=-1)
    projection = torch.linalg.svd(answers, full_matrices=False).Vh[:width].T
    settings = WrittenSettings(
        dim=texts.shape[1],
        texts=len(texts),
        width=width,
        bandwidth=bandwidth,
        share=share,
        temperature=temperature,
    )
    written = Written(settings, token_dim=len(mean))
    written.load_state_dict(
        {"texts": texts, "coefficients": coefficients @ projection, "projection": projection, "mean": mean}
    )
    return written.eval()
