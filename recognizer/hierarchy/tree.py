"""The groups of a memory's categories as a tree, and sums of confidences over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from memory import Category
from memory.columns import names_and_groups
from memory.lineage import join_levels, levels

Rows = NDArray[np.int64]
Doubles = NDArray[np.float64]

NO_NODE = -1


class Tree:
    """The tree of the groups: a node for each group and each level above one.

    A category whose path is that of a group, as "bird" beside "owl" in the group "bird", belongs to this group.

    Args:
        categories: (C) of a memory.

    Attributes:
        paths: (n) the nodes' paths, ascending; equal for equal levels, whatever blanks the groups have.
        depths: (n,) int64, 1 at the top.
        of_row: (C,) int64 node that each category is directly below; `NO_NODE` for none.
        chains: (n + 1, d) int64 each node and what is above it, up to the top, then `NO_NODE`; the last row, which
            `NO_NODE` selects, has nothing else.
    """

    def __init__(self, categories: Sequence[Category]) -> None:
        """Number the nodes."""
        names, groups = names_and_groups(categories)
        above = {group: levels(group) for group in set(groups)}
        inner = {path[:length] for path in above.values() for length in range(1, len(path) + 1)}
        nodes = sorted((join_levels(path), path) for path in inner)
        self.paths = [text for text, _ in nodes]
        numbers = {path: number for number, (_, path) in enumerate(nodes)}
        self.depths = np.array([len(path) for _, path in nodes], np.int64)
        own = (self._node(numbers, above[group], name) for name, group in zip(names, groups, strict=True))
        self.of_row = np.fromiter(own, np.int64, len(categories)) if nodes else np.full(len(categories), NO_NODE)
        self.chains = np.full((len(nodes) + 1, int(self.depths.max(initial=0))), NO_NODE, np.int64)
        for (_, path), chain in zip(nodes, self.chains, strict=False):
            chain[: len(path)] = [numbers[path[:depth]] for depth in range(len(path), 0, -1)]

    @staticmethod
    def _node(numbers: Mapping[tuple[str, ...], int], above: tuple[str, ...], name: str) -> int:
        own = above if above[-1:] == (name,) else (*above, name)  # as in `Category.path`
        return numbers.get(own, numbers.get(above, NO_NODE))

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.paths)

    def sums(self, rows: Rows, confidences: Doubles) -> Doubles:
        """Sum confidences over what is below each node.

        Args:
            rows: (k,) of categories.
            confidences: (k,) of those.

        Returns:
            (n,) sums.
        """
        nodes = self.of_row[rows]
        sums = np.bincount(nodes[nodes >= 0], confidences[nodes >= 0], minlength=len(self)).astype(np.float64)
        for depth in range(self.chains.shape[1], 1, -1):
            members = np.flatnonzero(self.depths == depth)
            np.add.at(sums, self.chains[members, 1], sums[members])
        return sums

    def climb(self, row: int, confidence: float, sums: Doubles) -> Doubles:
        """Return (1 + d,) a category's confidence and the sums of what is above it, from below; then NaN."""
        chain = self.chains[self.of_row[row]]
        return np.concatenate([[confidence], np.append(sums, np.nan)[chain]])

    def right(self, rows: Rows, truth: Rows) -> NDArray[np.bool_]:
        """Tell which answers above some categories are right.

        Args:
            rows: (N,) of the best categories.
            truth: (N,) of the true ones; negative where the memory does not have it.

        Returns:
            (N, 1 + d) whether the category, and what is above it, from below, is the true one or above it.
        """
        above, true = self.chains[self.of_row[rows]], self.chains[self.of_row[truth]]
        shared = (above[:, :, None] == true[:, None, :]).any(2) & (above != NO_NODE)
        found: NDArray[np.bool_] = np.column_stack([rows == truth, shared]) & (truth >= 0)[:, None]
        return found

    def shown(self, sums: Doubles, rows: Rows) -> dict[str, float]:
        """Return the sums of the largest nodes, as many as rows, and of all above these rows; largest first."""
        largest = np.argsort(-sums, kind="stable")
        wanted = {*largest[: len(rows)].tolist(), *self.chains[self.of_row[rows]].ravel().tolist()} - {NO_NODE}
        return {self.paths[number]: float(sums[number]) for number in largest.tolist() if number in wanted}
