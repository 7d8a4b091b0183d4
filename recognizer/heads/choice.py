"""The constants of the kernel ridge for these exemplars: fixed ones, or those that leave-one-out clearly prefers."""

from __future__ import annotations

from itertools import product

import numpy as np

from recognizer.heads.constants import ALONE, FEW_CATEGORIES, PRIOR, Constants
from recognizer.heads.kernel_ridge import FEWEST, evenly, inverse_kernel, leave_out
from recognizer.heads.residual import Doubles, Rows, Shots

BETAS = (0.5, 1.0, 2.0, 4.0)
RIDGES = (0.1, 0.3, 1.0, 3.0)
CLEARLY = 2.0
"""Standard errors by which other constants must beat the prior's, as the best of 15 is looked for."""
MOST = 1024
"""Exemplars that the choice looks at; 16 inverses of a matrix of that size take 2 s."""
STILL_CATEGORIES = 64
"""Categories that the choice looks at, at least, where not all of them fit into `MOST`; these keep their exemplars.

A few exemplars of every category would choose for as few. Of 1,089 emoji with three exemplars each (all folds), every
fourth name chooses constants that gain 2.5 to 4.5 points over the prior's, on all names in each of four other styles.
"""


def choose_constants(shots: Shots) -> Constants:
    """Choose beta and lambda by closed-form leave-one-out over the categories with at least `FEWEST` exemplars.

    With fewer exemplars leave-one-out would leave a category out rather than an exemplar, and prefer no head at all:
    the prior stands. So it does unless others get more exemplars right by `CLEARLY` standard errors of the difference.
    """
    if np.count_nonzero(shots.counts) < FEW_CATEGORIES:
        return ALONE
    enough = np.flatnonzero(shots.counts[shots.labels] >= FEWEST)
    if not len(enough):
        return PRIOR
    few = shots.take(enough)
    few = few.take(_some_categories(few.labels))
    few = few.take(evenly(few.labels, MOST))
    few = few.take(np.flatnonzero(few.counts[few.labels] >= FEWEST))
    if len(np.unique(few.labels)) < 2:
        return PRIOR

    def right(constants: Constants) -> Doubles:
        inverse = inverse_kernel(few, constants, np.ones(len(few.labels)))
        left_out = leave_out(few, inverse, by="exemplar")
        return (left_out.own > np.maximum(left_out.seen, left_out.unseen)).astype(float)

    prior = right(PRIOR)
    best, most = PRIOR, 0.0
    for constants in (Constants(beta, ridge) for beta, ridge in product(BETAS, RIDGES)):
        gain = right(constants) - prior
        error = gain.std() / np.sqrt(len(gain))
        if gain.mean() > max(most, CLEARLY * error):
            best, most = constants, float(gain.mean())
    return best


def _some_categories(labels: Rows) -> Rows:
    """Return the rows of every n-th category, so that about `MOST` remain, of at least `STILL_CATEGORIES`."""
    categories = np.unique(labels)
    step = min(-(-len(labels) // MOST), max(1, len(categories) // STILL_CATEGORIES))
    return np.flatnonzero(np.isin(labels, categories[::step]))
