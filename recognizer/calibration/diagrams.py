"""The two diagrams of a calibration, as PNG: reliability, and accuracy against coverage.

Figures are made without pyplot, which would keep a global list of them and look for a display.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from memory.durable import replacing
from recognizer.calibration.figures import Assessment
from recognizer.calibration.terms import Doubles

BLUE, ORANGE, GREY, INK = "#2468a8", "#d9822b", "#8a8f98", "#22262b"
_DPI = 150
_BARS = 20


def reliability_diagram(before: Assessment, after: Assessment, path: Path) -> None:
    """Draw accuracy against confidence, before and after, over the number of images at each confidence.

    Args:
        before: of the settings before the calibration.
        after: of the fitted ones.
        path: of the PNG.

    Raises:
        OutputUnusable: the disk refuses.
    """
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(4, 1))
    for column, (title, assessment) in enumerate((("before", before), ("after", after))):
        _reliability(axes[0, column], assessment, title)
        _counts(axes[1, column], assessment.coverage.confidence)
    axes[0, 0].set_ylabel("accuracy")
    axes[0, 1].legend(loc="lower right", frameon=False, fontsize=8)
    axes[1, 0].set_ylabel("images")
    figure.suptitle("Is the confidence the chance of being right?", color=INK)
    save(figure, path)


def coverage_diagram(before: Assessment, after: Assessment, path: Path) -> None:
    """Draw the accuracy among the images of highest confidence against their share of all, before and after.

    Args:
        before: of the settings before the calibration.
        after: of the fitted ones.
        path: of the PNG.

    Raises:
        OutputUnusable: the disk refuses.
    """
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for label, assessment, colour in (("before", before, GREY), ("after", after, BLUE)):
        curve = assessment.coverage
        # The first images alone make the curve jump between 0 and 1; each step holds until the next image.
        axes.step(
            np.r_[0, curve.coverage],
            np.r_[curve.accuracy[0], curve.accuracy],
            where="pre",
            color=colour,
            linewidth=1.8,
            label=f"{label}, area {curve.area:.3f}",
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="images answered, the surest first", ylabel="accuracy among them")
    axes.set_title("How much can be answered how well", color=INK, fontsize=12)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower left", frameon=False)
    plain(axes)
    save(figure, path)


def _reliability(axes: Axes, assessment: Assessment, title: str) -> None:
    bins = assessment.reliability
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, zorder=1)
    scatter = 2 * np.sqrt(bins.confidence * (1 - bins.confidence) / bins.counts)
    axes.fill_between(
        bins.confidence,
        np.maximum(bins.confidence - scatter, 0),
        np.minimum(bins.confidence + scatter, 1),
        color=GREY,
        alpha=0.18,
        linewidth=0,
        label="where 95 % of the bins lie if calibrated perfectly",
        zorder=1,
    )
    axes.vlines(bins.confidence, bins.accuracy, bins.confidence, color=ORANGE, linewidth=2.5, alpha=0.7, zorder=2)
    axes.plot(bins.confidence, bins.accuracy, color=BLUE, marker="o", markersize=5, linewidth=1.5, zorder=3)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_title(
        f"{title}: ECE {assessment.reliability.error:.3f}\n({assessment.chance_error:.3f} if calibrated perfectly)",
        color=INK,
        fontsize=11,
    )
    plain(axes)


def _counts(axes: Axes, confidence: Doubles) -> None:
    # The bins of the curve hold equally many images; bars of equal width show where those are.
    axes.hist(confidence, bins=np.linspace(0, 1, _BARS + 1).tolist(), color=BLUE, rwidth=0.9)
    axes.set_xlabel("confidence")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    plain(axes)


def plain(axes: Axes) -> None:
    """Leave away what tells nothing, and draw a quiet grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e8eb", linewidth=0.8)
    axes.set_axisbelow(True)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically.

    Raises:
        OutputUnusable: the disk refuses.
    """
    FigureCanvasAgg(figure)
    with replacing(path) as draft:
        figure.savefig(draft, format="png", dpi=_DPI)
