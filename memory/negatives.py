"""Negative labels: names of things that the categories are not, which compete with them where `unknown` is decided.

A memory stores all candidates with their vectors, so that they are encoded once, and which of them are chosen: those
unlike every category. The choice is made again whenever categories are added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory.category import Category

Choose = Callable[[Sequence[Category]], NDArray[np.bool_]]
"""Takes the categories and returns (P,) bool, the candidates that are unlike every one of them."""


@dataclass(frozen=True, slots=True)
class NegativeLabels:
    """What a build needs to know of negative labels.

    Attributes:
        names: (P) distinct candidates.
        choose: chooses among them.
    """

    names: Sequence[str]
    choose: Choose
