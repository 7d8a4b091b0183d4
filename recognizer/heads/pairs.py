"""Categories of two exemplars that contradict each other.

From three exemplars on, the others outvote a wrong one (`kernel_ridge.doubtful`). Of two, each is the only witness
against the other, so both are listed for a person to decide, and both are fitted as they are.
"""

from __future__ import annotations

import numpy as np

from recognizer.heads.constants import Constants
from recognizer.heads.kernel_ridge import CLEARLY_WRONG, EXACT, LANDMARKS, evenly, inverse_kernel, leave_out
from recognizer.heads.residual import Shots


def disputed_pairs(shots: Shots, constants: Constants) -> list[tuple[int, int]]:
    """Find the pairs of which one or both look clearly like another category when they are left out.

    With a tenth of the labels of exemplars wrong on purpose, two exemplars each: 0.47 to 0.79 of the categories with a
    wrong one are found, and 0.59 to 0.94 of the categories found have a wrong one (emoji of fold 1, folders of stamps,
    emoji that the starter was trained on). The exemplar with the larger margin is the wrong one in 0.80 to 0.99 of all
    pairs with a wrong one; asking both to look like another category finds 0.03 to 0.10 of them.

    Args:
        shots: the exemplars; of more than `EXACT` the first ones of each category are looked at.
        constants: of the fit.

    Returns:
        The exemplars of these pairs, two and two, the likelier wrong one first, each with the category that it looks
        like instead.
    """
    total = len(shots.labels)
    rows = np.arange(total) if total <= EXACT else evenly(shots.labels, LANDMARKS)
    core = shots.take(rows)
    left_out = leave_out(core, inverse_kernel(core, constants, np.ones(len(rows))), by="exemplar")
    margins = left_out.seen - left_out.own
    pairs: list[tuple[int, int]] = []
    for category in np.flatnonzero((core.counts == 2) & (shots.counts == 2)):
        both = np.flatnonzero(core.labels == category)
        both = both[np.argsort(-margins[both], kind="stable")]
        if margins[both[0]] > CLEARLY_WRONG * shots.spread:
            pairs += zip(rows[both].tolist(), left_out.rivals[both].tolist(), strict=True)
    return pairs
