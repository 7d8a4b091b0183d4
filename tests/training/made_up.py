"""Made-up batches for tests of the losses."""

import numpy as np
import torch
from torch.nn import functional

from tests import reference
from training.distributed import RankSum, average_over_ranks
from training.matcher import Matches


def unit(*shape, seed=0):
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(rows, dim=-1)


def pairs_of(query_of_box, queries):
    query_of_box = torch.tensor(query_of_box)
    box_of_query = torch.full((len(query_of_box), queries), -1)
    for i, m in (query_of_box >= 0).nonzero().tolist():
        box_of_query[i, query_of_box[i, m]] = m
    return Matches(query_of_box, box_of_query)


def average(shares):
    """The term of a run of one process, from what a loss returns."""
    return torch.stack(average_over_ranks([shares] if isinstance(shares, RankSum) else shares)).mean()


def gradient_of(function, values):
    values = values.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(values), values)
    return gradient


def assert_same_slope(fast, slow, values):
    expected = reference.numerical_gradient(lambda moved: slow(torch.from_numpy(moved)), values.numpy())
    np.testing.assert_allclose(gradient_of(fast, values), expected, atol=1e-8)
