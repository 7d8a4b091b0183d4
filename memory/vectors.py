"""The vectors of a memory as arrays, and arithmetic on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memory.category import Category
from memory.errors import BadVectors, printable

# How far the length of a unit row may be from 1. Rounding to bf16 changes each number by up to 0.2 %, which nearly
# averages out in the length; rows that were never normalised are off by far more.
_UNIT_TOLERANCE = 1e-3
# Of rows that were within it before they were stored as fp16, which changes each number by up to 2^-11 of itself.
STORED_TOLERANCE = _UNIT_TOLERANCE + 2**-11

# Rows of vectors that are converted or added up together: 22 MiB of float32 at D = 1,384.
ROWS_AT_A_TIME = 4096

Matrix = NDArray[np.float32]


class VectorRows(Protocol):
    """(N, D) unit rows: an array, or rows that are read from a file and become float32 where they are selected."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, index: Any, /) -> Matrix:  # noqa: ANN401  whatever selects rows of an array
        """Return the float32 rows that a slice, or an array of rows, selects."""


@dataclass(frozen=True, slots=True, eq=False)
class MemoryVectors:
    """All vectors of a memory: C categories, J descriptions, K exemplars, D dimensions.

    Rows are of unit length, and rounded to fp16. Those of names and descriptions are arrays in a small memory, and are
    read part by part in a large one (see `memory.columns`), where categories and texts are read one by one, too. Arrays
    are float32, C-contiguous and read-only. Categories are sorted by id. A category without descriptions has no
    description rows.

    Attributes:
        categories: (C) the categories.
        names: (C, D) vectors of the names.
        offsets: (C + 1) int64; the descriptions of category c are the rows ``offsets[c]:offsets[c + 1]``.
        grounded: (J, D) vectors of the descriptions together with the name.
        bare: (J, D) vectors of the descriptions without the name.
        descriptions: (J) the texts of the descriptions, as the user gave them.
        exemplar_offsets: (C + 1) int64; exemplars of category c are ``exemplar_offsets[c]:exemplar_offsets[c + 1]``.
        exemplars: (K, D) vectors of the example images.
        exemplar_hashes: (K) hexadecimal sha256 of the image files.
        exemplar_references: (K) where the images are.
        negatives: (M, D) vectors of the negative labels; M is 0 in a memory without any.
        negative_names: (M) their names.
    """

    categories: Sequence[Category]
    names: VectorRows
    offsets: NDArray[np.int64]
    grounded: VectorRows
    bare: VectorRows
    descriptions: Sequence[str]
    exemplar_offsets: NDArray[np.int64]
    exemplars: Matrix
    exemplar_hashes: Sequence[str]
    exemplar_references: Sequence[str]
    negatives: Matrix = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    negative_names: Sequence[str] = ()

    def take(self, rows: NDArray[np.int64]) -> MemoryVectors:
        """Return the vectors of some categories, and all negative labels: they are unlike these, too.

        Args:
            rows: (n) ascending rows of categories.
        """
        descriptions, offsets = rows_between(self.offsets, rows)
        exemplars, exemplar_offsets = rows_between(self.exemplar_offsets, rows)
        return MemoryVectors(
            categories=[self.categories[row] for row in rows],
            names=self.names[rows],
            offsets=offsets,
            grounded=self.grounded[descriptions],
            bare=self.bare[descriptions],
            descriptions=[self.descriptions[row] for row in descriptions],
            exemplar_offsets=exemplar_offsets,
            exemplars=self.exemplars[exemplars],
            exemplar_hashes=[self.exemplar_hashes[row] for row in exemplars],
            exemplar_references=[self.exemplar_references[row] for row in exemplars],
            negatives=self.negatives,
            negative_names=self.negative_names,
        )


def rows_between(
    offsets: NDArray[np.int64], chosen: Sequence[int] | NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find what some categories own, such as their descriptions.

    Args:
        offsets: (C + 1) as ``MemoryVectors.offsets``.
        chosen: (n) rows of categories.

    Returns:
        (m) int64 rows that they own, and the (n + 1) int64 offsets of each category in them.
    """
    owned = [np.arange(offsets[row], offsets[row + 1]) for row in chosen]
    return np.concatenate([np.zeros(0, np.int64), *owned]), np.cumsum([0, *map(len, owned)], dtype=np.int64)


def equal_vectors(one: MemoryVectors, other: MemoryVectors) -> bool:
    """Say whether two memories hold the same, to the last bit."""
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(MemoryVectors)]
    return all(np.array_equal(a[:], b[:]) if hasattr(a, "shape") else list(a) == list(b) for a, b in pairs)


@dataclass(frozen=True, slots=True, eq=False)
class ExemplarSet:
    """Example images of categories, encoded by the caller.

    Attributes:
        category_ids: (K) id of the category that each image shows.
        references: (K) where the images are.
        hashes: (K) hexadecimal sha256 of the image files.
        vectors: (K, D) float32 unit rows.
    """

    category_ids: Sequence[str]
    references: Sequence[str]
    hashes: Sequence[str]
    vectors: Matrix

    def __post_init__(self) -> None:
        """Check that all columns have the same length."""
        lengths = {len(self.category_ids), len(self.references), len(self.hashes), len(self.vectors)}
        if len(lengths) > 1:
            raise ValueError(f"an exemplar set has columns of different lengths: {sorted(lengths)}")


def are_unit_rows(matrix: Matrix, tolerance: float = _UNIT_TOLERANCE) -> NDArray[np.bool_]:
    """Return (N) bool which rows of an (N, D) matrix are finite and, within the tolerance, of unit length."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("nd,nd->n", matrix, matrix))
        unit: NDArray[np.bool_] = np.abs(lengths - 1.0) <= tolerance  # False for NaN
    return unit


def check_unit_rows(vectors: NDArray[np.floating], labels: Sequence[str], dim: int, source: str) -> Matrix:
    """Check vectors before they are stored.

    Args:
        vectors: (N, D) rows.
        labels: (N) what each row stands for, for messages.
        dim: D of the encoder's card.
        source: where the vectors come from, for messages.

    Returns:
        The vectors as C-contiguous float32.

    Raises:
        BadVectors: another shape, or a row that is not finite or not of unit length; the message has its label.
    """
    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    if matrix.shape != (len(labels), dim):
        raise BadVectors(f"{source} gave vectors of shape {matrix.shape} where ({len(labels)}, {dim}) was expected.")
    bad = ~are_unit_rows(matrix)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        length = float(np.linalg.norm(matrix[row].astype(np.float64)))
        raise BadVectors(
            f"{source} gave {int(bad.sum())} vectors that are not of finite unit length; the first, of length "
            f"{length:.4g}, is for {printable(labels[row])!r}. Normalise the rows, and look for NaN in the model."
        )
    return matrix


def normalize_rows(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return rows (..., D) of any length as float32 of unit length; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = (rows / np.maximum(lengths, 1e-12)).astype(np.float32, copy=False)
    return unit


def unit_mean(vectors: Matrix, groups: NDArray[np.int64], labels: Sequence[str]) -> Matrix:
    """Average groups of consecutive unit rows and normalise the means.

    Args:
        vectors: (N, D) unit rows.
        groups: (G) int64 number of rows of each group, at least 1; their sum is N.
        labels: (G) what each group stands for, for messages.

    Returns:
        (G, D) float32 unit rows. A group of one row is that row, unchanged.

    Raises:
        BadVectors: the rows of a group cancel out.
    """
    if not len(groups) or (groups == 1).all():
        return vectors
    starts = np.concatenate(([0], np.cumsum(groups)[:-1]))
    sums = np.add.reduceat(vectors.astype(np.float64), starts, axis=0)
    # The sum of n unit rows has a length from 0 to n; below a millionth of n its direction is rounding noise.
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    zero = lengths[:, 0] < 1e-6 * groups
    if zero.any():
        label = printable(labels[int(np.flatnonzero(zero)[0])])
        raise BadVectors(f"the vectors of the texts for {label!r} cancel out. Use other templates.")
    means: Matrix = (sums / lengths).astype(np.float32)
    # A single row is taken as it is: normalising it again would change its last bits.
    single = groups == 1
    means[single] = vectors[starts[single]]
    return means


def mean_by_category(values: VectorRows, offsets: NDArray[np.int64], empty: VectorRows) -> Matrix:
    """Average the description rows of each category; a category without descriptions gets its row of ``empty``.

    Args:
        values: (J, D) one row for each description.
        offsets: (C + 1) int64, see ``MemoryVectors.offsets``.
        empty: (C, D).

    Returns:
        (C, D) float32; means are not normalised.
    """
    means = np.empty(empty.shape, np.float32)
    for start in range(0, len(means), ROWS_AT_A_TIME):
        part = slice(start, min(start + ROWS_AT_A_TIME, len(means)))
        means[part] = _means(values, offsets[start : part.stop + 1], empty[part])
    return means


def _means(values: VectorRows, offsets: NDArray[np.int64], empty: Matrix) -> Matrix:
    counts = np.diff(offsets)
    means = np.array(empty, np.float32)
    described = np.flatnonzero(counts)
    means[described] = 0
    # Position by position, the first one last: `np.add.reduceat` adds in the same order, and is several times slower.
    longer = described
    for position in range(1, counts.max(initial=0)):
        longer = longer[counts[longer] > position]
        means[longer] += values[offsets[longer] + position]
    means[described] += values[offsets[described]]
    means[described] /= counts[described, None]
    return means
