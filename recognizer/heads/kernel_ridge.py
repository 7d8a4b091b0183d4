"""ProKeR (arXiv 2501.11175): kernel ridge regression of what the zero-shot scores lack at the exemplars.

With K_ij = exp(-beta (1 - <x_i, x_j>)) and the targets T of `Shots`, A = (K + lambda / w)^-1 T, and an image x gets
k(x) A on top of its scores: a sum over exemplars of kernel times coefficient. Leaving exemplars E out has a closed
form: A - P_:E (P_EE)^-1 A_E with P = (K + lambda / w)^-1, which at x_i alone predicts T_i - A_i / P_ii.

Above `EXACT` exemplars all of them are fitted, but on the kernels of `LANDMARKS` of them (the Nystroem method): A =
(K_mn w K_nm + lambda K_mm)^-1 K_mn w T. Memory is then flat in the number of exemplars.

Three things are added to the paper's head. The targets have a hinge (see `residual.HINGE`). A category that has
exemplars pays a constant *shift* (calibrated stacking, arXiv 1605.04253), so that those without do not lose: it is
found by leaving each category's exemplars out, as if it had none. And an exemplar that its category's other exemplars
contradict has a weight w below 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-untyped]
from scipy.linalg.lapack import dpotrf, dpotri  # type: ignore[import-untyped]
from scipy.special import expit  # type: ignore[import-untyped]

from memory.index import inner_products
from recognizer.heads.constants import PRIOR, Constants
from recognizer.heads.residual import Doubles, Floats, Rows, Shots, blocks

EXACT = 4096
"""Exemplars up to which the fit is exact; the inverse of the kernel is then 64 MB."""
LANDMARKS = 2048
"""Exemplars whose kernels carry the fit of more than `EXACT`."""
_PASS = 2048  # exemplars of one pass over all of them
FEWEST = 3
"""Exemplars of a category from which leaving one of them out says something: two others have to agree against it."""
CLEARLY_WRONG = 3.0
"""Spreads by which another category must lie above an exemplar's own for it to be doubted.

With a tenth of the labels of exemplars wrong on purpose (emoji at 3 per name, folders of stamps at 4 and 8), 0.57 to
0.71 of the doubted ones were wrong ones, and 0.38 to 0.84 of the wrong ones were doubted. At 0, half of all are
doubted. With as many false alarms, other constants and a second pass that trusts the doubted less find 0.03 fewer to
0.08 more, the nearest exemplars or the kernel without the texts 0.03 to 0.7 fewer: only what the others name right can
be contradicted by them, which is 0.44 to 0.77 of the rightly labelled exemplars."""
DOUBTED = 0.5
"""Weight of a doubted exemplar: with a fifth of all labels wrong it gains 0.3 to 1.3 points, with none it costs 0.5.

A weight of 0.1 gains up to 2.4 and costs up to 1."""
SAFETY = 0.25
"""Spreads added to the shift that leaving categories out asks for.

Exemplars are more like each other than like the pictures to come, so this asks for a little too little: with half of it
categories without exemplars lost 2 points on GCompris and on costumes, with it 0.7 and none."""
_SOFTNESS = 0.6  # spreads; width of the logistic for right or wrong, so that few exemplars give a steady sum
_NEARLY = 1e-3  # of the accuracy; no shift is paid for less
_SHIFTS = np.arange(0, 4.01, 0.125)  # spreads
# Rows of the inverse that are mirrored at a time; all 4,000 at once take 0.5 s, where its factors take 1.4 s.
_MIRRORED = 512
_JITTER = 1e-8  # equal landmarks make the kernel singular


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Scores of the exemplars under a head that was fitted without them; no category pays a shift.

    Attributes:
        own: (n,) of the exemplar's own category.
        seen: (n,) the highest of the others that have exemplars, or -inf.
        rivals: (n,) which one that is, or -1.
        unseen: (n,) the highest of the others that have none, or -inf.
    """

    own: Doubles
    seen: Doubles
    rivals: Rows
    unseen: Doubles


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What a fit finds; with the exemplars it was made of, a head again.

    Attributes:
        constants: of the kernel and the ridge.
        spread: of the exemplars, see `Shots`.
        coefficients: (C, m) float32 of each category for the exemplars of the basis.
        weights: (n,) of the exemplars, 1 or `DOUBTED`.
        doubted: (d, 2) exemplars of the basis that vote wrong, each with the category that it looks like instead.
        shift: what a category with exemplars pays, in units of the score.
    """

    constants: Constants
    spread: float
    coefficients: Floats
    weights: Doubles
    doubted: Rows
    shift: float


class KernelRidge:
    """A fitted head.

    Args:
        shots: the exemplars, n of them.
        constants: of the kernel and the ridge.
        fit: an earlier one of these exemplars and constants; None: they are fitted here.

    Attributes:
        basis: (m,) exemplars whose kernels carry the term; all of them up to `EXACT`.
        fit: what was found.
    """

    def __init__(self, shots: Shots, constants: Constants = PRIOR, fit: Fit | None = None) -> None:
        """Fit, doubt what is contradicted, and fit again."""
        self.shots, self.constants = shots, constants
        total = len(shots.labels)
        self.basis = np.arange(total) if total <= EXACT else evenly(shots.labels, LANDMARKS)
        self._counts = shots.counts
        self.fit = fit or self._fitted()
        self.coefficients, self.weights, self.shift = self.fit.coefficients, self.fit.weights, self.fit.shift

    def _fitted(self) -> Fit:
        shots, constants, basis = self.shots, self.constants, self.basis
        core, weights = shots.take(basis), np.ones(len(shots.labels))
        inverse = inverse_kernel(core, constants, weights[basis])
        left_out = leave_out(core, inverse, by="exemplar")
        wrong = doubtful(core, left_out)
        if len(wrong):
            weights[basis[wrong]] = DOUBTED
            inverse = inverse_kernel(core, constants, weights[basis])
        doubted = np.stack([basis[wrong], left_out.rivals[wrong]], axis=1)
        shift = 0.0 if self._counts.all() else find_shift(core, inverse)
        self._solved = self._solve(weights, inverse)
        return Fit(constants, shots.spread, self._solved.coefficients(), weights, doubted, shift)

    @cached_property
    def _solved(self) -> _Exact | _Nystroem:
        """What the coefficients without some exemplars come from; of an earlier fit it is made at the first use."""
        return self._solve(self.weights, None)

    def _solve(self, weights: Doubles, inverse: Floats | None) -> _Exact | _Nystroem:
        if len(weights) > EXACT:
            return _Nystroem(self.shots, self.basis, self.constants, weights)
        return _Exact(self.shots, inverse_kernel(self.shots, self.constants, weights) if inverse is None else inverse)

    @property
    def doubted(self) -> list[tuple[int, int]]:
        """Exemplars of the basis that vote wrong, each with the category that it looks like instead."""
        return [(place, rival) for place, rival in self.fit.doubted.tolist()]

    @cached_property
    def rows_of_basis(self) -> Floats:
        """(m, D) the vectors of the basis."""
        return np.ascontiguousarray(self.shots.vectors[self.basis])

    def kernel(self, images: Floats) -> Floats:
        """Return (B, m) kernels of images (B, D) and the exemplars of the basis."""
        kernels: Floats = np.exp(np.float32(-self.constants.beta) * (1 - inner_products(images, self.rows_of_basis)))
        return kernels

    def term(self, images: Floats, without: Sequence[Rows] = ()) -> Floats:
        """Return what the head adds to the scores.

        Args:
            images: (B, D) float32 unit rows.
            without: per image the exemplars that it must not be compared with; empty: none for any.

        Returns:
            (B, C) float32.
        """
        return self.term_of(self.kernel(images), without)

    def term_of(self, kernels: Floats, without: Sequence[Rows] = ()) -> Floats:
        """Return what `term` returns, from the (B, m) `kernel` of the images."""
        term = inner_products(kernels, self.coefficients)
        term -= self.shifts()
        for image, rows in enumerate(without):
            if len(rows):
                term[image] = self.coefficients_without(rows) @ kernels[image] - self.shifts(rows)
        return term

    def shifts(self, without: Rows | None = None) -> Floats:
        """Return (C,) what each category pays: the shift where it has exemplars, besides those left out, else 0."""
        if without is None or not len(without):
            return self._shifts
        counts = self._counts - np.bincount(self.shots.labels[without], minlength=len(self._counts))
        return np.where(counts > 0, self.shift, 0).astype(np.float32)

    @cached_property
    def _shifts(self) -> Floats:
        return np.where(self._counts > 0, self.shift, 0).astype(np.float32)

    def coefficients_without(self, rows: Rows) -> Floats:
        """Return (C, m) the coefficients of a fit without some exemplars, under the same constants and weights."""
        gone = self.shots.take(rows)
        gain = self._solved.gain(rows)
        kernels = kernel_matrix(gone.vectors, self.rows_of_basis, self.constants.beta)
        inner = np.eye(len(rows), dtype=np.float32) - kernels @ gain
        changed = np.empty_like(self.coefficients)
        for part in blocks(self.shots.texts):
            missed = gone.targets(part) - kernels @ self.coefficients[part].T
            changed[part] = self.coefficients[part] - (gain @ np.linalg.solve(inner, missed)).T
        return changed


class _Exact:
    """Solves for coefficients of all exemplars."""

    def __init__(self, shots: Shots, inverse: Floats) -> None:
        self._shots, self._inverse = shots, inverse

    def coefficients(self) -> Floats:
        """Return (C, n) coefficients."""
        found = np.empty((len(self._shots.texts), len(self._inverse)), np.float32)
        for part in blocks(self._shots.texts):
            found[part] = (self._inverse @ self._shots.targets(part)).T
        return found

    def gain(self, rows: Rows) -> Floats:
        """Return (n, e) how the coefficients move with what is missed at e of the exemplars."""
        return self._inverse[:, rows]


class _Nystroem:
    """Solves for coefficients of the landmarks, in passes over all exemplars."""

    def __init__(self, shots: Shots, basis: Rows, constants: Constants, weights: Doubles) -> None:
        self._shots, self._landmarks = shots, shots.vectors[basis]
        self._beta, self._weights = constants.beta, weights.astype(np.float32)
        regular = constants.ridge * kernel_matrix(self._landmarks, self._landmarks, constants.beta).astype(np.float64)
        regular[np.diag_indices_from(regular)] += _JITTER * len(weights)
        self._wanted = np.zeros((len(basis), len(shots.texts)))
        for start in range(0, len(weights), _PASS):
            rows = np.arange(start, min(start + _PASS, len(weights)))
            weighted, some = self._weighted(rows), shots.take(rows)
            regular += weighted @ kernel_matrix(some.vectors, self._landmarks, constants.beta)
            for part in blocks(shots.texts):
                self._wanted[:, part] += weighted @ some.targets(part)
        self._factor = cho_factor(regular, lower=True, overwrite_a=True, check_finite=False)

    def coefficients(self) -> Floats:
        """Return (C, m) coefficients."""
        found = cho_solve(self._factor, self._wanted, overwrite_b=True, check_finite=False)
        return np.ascontiguousarray(found.T, np.float32)

    def gain(self, rows: Rows) -> Floats:
        """Return (m, e) how the coefficients move with what is missed at e of the exemplars."""
        gain: Floats = cho_solve(self._factor, self._weighted(rows), check_finite=False).astype(np.float32)
        return gain

    def _weighted(self, rows: Rows) -> Floats:
        """Return (m, e) kernels of the landmarks and e exemplars, times their weights."""
        return kernel_matrix(self._landmarks, self._shots.vectors[rows], self._beta) * self._weights[rows]


def kernel_matrix(one: Floats, other: Floats, beta: float) -> Floats:
    """Return (a, b) float32 kernels of unit rows (a, D) and (b, D)."""
    kernels: Floats = np.exp(np.float32(-beta) * (1 - one @ other.T))
    return kernels


def inverse_kernel(shots: Shots, constants: Constants, weights: Doubles) -> Floats:
    """Return (n, n) float32 (K + lambda / w)^-1, computed in doubles."""
    regular = np.asfortranarray(kernel_matrix(shots.vectors, shots.vectors, constants.beta), np.float64)
    regular[np.diag_indices_from(regular)] += constants.ridge / weights
    factor, _ = dpotrf(regular, lower=1, overwrite_a=1)
    inverse, _ = dpotri(factor, lower=1, overwrite_c=1)  # half the work of solving for the unit matrix
    whole: Floats = inverse.astype(np.float32)
    for start in range(0, len(whole), _MIRRORED):
        stop = start + _MIRRORED
        whole[start:stop, stop:] = whole[stop:, start:stop].T
        lower = np.tril(whole[start:stop, start:stop])
        whole[start:stop, start:stop] = lower + np.tril(lower, -1).T
    return whole


def leave_out(shots: Shots, inverse: Floats | None, *, by: Literal["exemplar", "category"]) -> LeftOut:
    """Score each exemplar by a fit without it, or without all exemplars of its category.

    Args:
        shots: n exemplars.
        inverse: (n, n) of `inverse_kernel`; None: zero-shot scores.
        by: what is left out.
    """
    numbers, labels = np.arange(len(shots.labels)), shots.labels
    has = shots.counts > 0
    own, seen, unseen = (np.full(len(labels), -np.inf) for _ in range(3))
    rivals = np.full(len(labels), -1)
    groups = [np.flatnonzero(labels == label) for label in np.flatnonzero(has)] if by == "category" else []
    for part in blocks(shots.texts):
        scores = shots.scores(part)
        if inverse is not None:
            targets = shots.targets(part)
            coefficients = inverse @ targets
            if by == "exemplar":
                scores += targets - coefficients / inverse.diagonal()[:, None]
            for group in groups:
                block = inverse[np.ix_(group, group)]
                scores[group] += targets[group] - np.linalg.solve(block, coefficients[group])
        inside = np.flatnonzero((labels >= part.start) & (labels < part.stop))
        places = inside, labels[inside] - part.start
        own[inside] = scores[places]
        scores[places] = -np.inf
        unseen = np.maximum(unseen, scores[:, ~has[part]].max(1, initial=-np.inf))
        columns = np.flatnonzero(has[part])
        if len(columns):
            best = scores[:, columns].argmax(1)
            highest = scores[numbers, columns[best]]
            higher = highest > seen
            seen[higher], rivals[higher] = highest[higher], columns[best[higher]] + part.start
    return LeftOut(own, seen, rivals, unseen)


def doubtful(shots: Shots, left_out: LeftOut) -> Rows:
    """Return the exemplars that vote wrong: without them, they look like another category that has exemplars.

    Of categories with at least `FEWEST` exemplars only.
    """
    wrong = (left_out.seen - left_out.own > CLEARLY_WRONG * shots.spread) & (shots.counts[shots.labels] >= FEWEST)
    return np.flatnonzero(wrong)


def find_shift(shots: Shots, inverse: Floats) -> float:
    """Return the least shift at which a category without exemplars is recognised as well as by the zero-shot scores.

    Every category is taken for such a one in turn. Right and wrong are smoothed by a logistic of the margin.
    """
    plain, without = leave_out(shots, None, by="category"), leave_out(shots, inverse, by="category")

    def accuracy(margin: Doubles) -> float:
        return float(expit(margin / (_SOFTNESS * shots.spread)).mean())

    if not shots.spread:
        return 0.0
    shifts = shots.spread * _SHIFTS
    reached = [accuracy(without.own - np.maximum(without.seen - shift, without.unseen)) for shift in shifts]
    wanted = min(accuracy(plain.own - np.maximum(plain.seen, plain.unseen)), reached[-1]) - _NEARLY
    return float(next(shift for shift, value in zip(shifts, reached, strict=True) if value >= wanted)) + (
        SAFETY * shots.spread
    )


def evenly(labels: Rows, total: int) -> Rows:
    """Return ascending rows, at most `total`, that take equally many of every label, the first ones of each.

    Where there are more labels than that, the last labels get none.
    """
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(labels[order]) > 0]) if len(labels) else np.zeros(0, np.int64)
    place = np.empty(len(labels), np.int64)
    place[order] = np.arange(len(labels)) - np.repeat(starts, np.diff(np.r_[starts, len(labels)]))
    return np.sort(np.lexsort((labels, place))[:total])
