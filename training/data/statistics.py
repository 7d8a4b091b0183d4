"""Statistics of training data: how many boxes, how large, how long the texts, which words, what could not be used."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from recognizer.images import ImageLimits
from training.data.record import BadSample, Record, Rejects
from training.data.sources import Source, read_sample

PERCENTILES = {"least": 0, "5 %": 5, "median": 50, "95 %": 95, "most": 100}
# Articles, prepositions and the like, which lead every list of English words and say nothing of what is shown.
_COMMON = frozenset(
    """a an and are as at by for from has have in into is it its
    no of on or that the their to with""".split()  # noqa: SIM905
)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(slots=True)
class DataStatistics:
    """What training data holds; bad samples and bad parts are only counted.

    Attributes:
        rejects: counts of all samples, and of what could not be used.
        good_rows: rows of the source that can be used.
        without_boxes: number of usable images that have no region.
        values: by quantity, its values: one for each image, region or text that it speaks of.
        caption_words: how many captions have each word, in lower case.
        description_words: likewise of descriptions.
    """

    rejects: Rejects = field(default_factory=Rejects)
    good_rows: list[int] = field(default_factory=list)
    without_boxes: int = 0
    values: dict[str, array[float]] = field(default_factory=dict)
    caption_words: Counter[str] = field(default_factory=Counter)
    description_words: Counter[str] = field(default_factory=Counter)

    def add(self, row: int, size_hw: tuple[int, int], record: Record) -> None:
        """Count a usable sample.

        Args:
            row: of the source.
            size_hw: height and width of its displayed image, in pixels.
            record: its texts and boxes.
        """
        self.good_rows.append(row)
        self.without_boxes += not record.regions
        height, width = size_hw
        self._count("image width", [width])
        self._count("image height", [height])
        self._count("captions per image", [len(record.captions)])
        self._count("boxes per image", [len(record.regions)])
        self._count_words("words per caption", record.captions, self.caption_words)
        for region in record.regions:
            x0, y0, x1, y1 = region.box_xyxy
            self._count("box area, share of the image", [(x1 - x0) * (y1 - y0) / (height * width)])
            self._count("score of a box", [region.score])
            self._count("descriptions per box", [len(region.descriptions)])
            self._count_words("words per description", region.descriptions, self.description_words)

    def rows(self) -> list[list[str]]:
        """Return a table row for each quantity: its name, the number of values, their mean and `PERCENTILES`."""
        rows = []
        for quantity, values in self.values.items():
            found = np.percentile(values, list(PERCENTILES.values()))
            rows.append([quantity, str(len(values)), *(_number(value) for value in (np.mean(values), *found))])
        return rows

    def _count(self, quantity: str, values: Iterable[float]) -> None:
        self.values.setdefault(quantity, array("f")).extend(values)

    def _count_words(self, quantity: str, texts: Iterable[str], words: Counter[str]) -> None:
        for text in texts:
            found = [word.casefold() for word in _WORD.findall(text)]
            self._count(quantity, [len(found)])
            words.update(set(found) - _COMMON)


def measure_data(
    source: Source, *, limits: ImageLimits, progress: Callable[[int], None] = lambda done: None
) -> DataStatistics:
    """Read all samples and count what training could use of them.

    Args:
        source: of the samples.
        limits: of the images.
        progress: called with the number of samples just read.
    """
    statistics = DataStatistics(Rejects(parts=Counter(source.parts)))
    for row in range(len(source)):
        statistics.rejects.seen += 1
        try:
            _, decoded, record = read_sample(source, row, statistics.rejects, limits=limits, target_size_hw=(1, 1))
        except BadSample as fault:
            statistics.rejects.samples[fault.reason] += 1
        else:
            statistics.add(row, decoded.displayed_size_hw, record)
        progress(1)
    return statistics


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3g}" if value < 100 else f"{value:.0f}"
