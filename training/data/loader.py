"""Training batches: the same for the same seed, whatever the number of processes, and from any point on.

A sample depends on (seed, epoch, slot) alone, where a slot is a position in the epoch's order over all ranks. A bad
sample is counted and replaced by another one, drawn from the same three numbers, so that all ranks take the same number
of steps with full batches.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch.utils.data import DataLoader, Dataset

from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.towers import Tokenize
from recognizer.images import DecodedImage, ImageLimits
from training.data.augment import AugmentSettings, augment
from training.data.batch import Batch, Sample, collate
from training.data.record import BadSample, Record, Rejects
from training.data.sources import Source, read_sample
from training.errors import DataError

Place = tuple[int, int, int]
"""Epoch, slot, and the row of the source that the epoch's order puts there."""

_TRIES = 16  # samples tried for one slot: at a bad share of 0.5 a slot stays empty once in 65,536
_JUDGED_FROM = 200  # samples; among fewer, a few bad ones say little about their share


class DataSettings(BaseModel):
    """Which part of the data is used, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    augment: AugmentSettings = AugmentSettings()
    limits: ImageLimits = ImageLimits()
    max_boxes: int = Field(default=8, ge=1, description="Boxes used per image: those of the highest score.")
    max_descriptions: int = Field(
        default=8, ge=1, description="Descriptions used per box; if it has more, some are drawn anew in every epoch."
    )
    min_score: float = Field(default=0.0, ge=0, le=1, description="Smallest score of a box that is used.")
    max_bad_share: float = Field(default=0.01, ge=0, le=1, description="Share of bad samples above which a run stops.")
    blocks_at_once: int = Field(
        default=64,
        ge=1,
        description="Shards whose samples are shuffled together; more mix better and read less evenly.",
    )


class Samples(Protocol):
    """Makes samples, the same ones from the same random state; picklable, and small when pickled."""

    def __len__(self) -> int:
        """Count the samples, good and bad."""
        ...

    def make(self, row: int, rng: np.random.Generator, rejects: Rejects) -> Sample:
        """Make a sample.

        Args:
            row: 0 to length - 1.
            rng: makes every choice, the caption first.
            rejects: counts what is left out; becomes the sample's.

        Raises:
            BadSample: the sample cannot be used.
        """
        ...


class Pictures:
    """Samples made from the pictures and fields of a source."""

    def __init__(self, source: Source, settings: DataSettings, preprocessing: Preprocessing) -> None:
        """Take the source, the settings, and the encoder's preprocessing, which gives size and fit of the input."""
        self._source, self._settings, self._preprocessing = source, settings, preprocessing

    def __len__(self) -> int:
        """Count the samples, good and bad."""
        return len(self._source)

    def make(self, row: int, rng: np.random.Generator, rejects: Rejects) -> Sample:
        """Make a sample; see `Samples.make`."""
        key, decoded, record = self.read(row, rejects)
        caption = record.captions[int(rng.integers(len(record.captions)))]
        size_hw, augmenting = decoded.displayed_size_hw, self._settings.augment
        shown = augment(decoded.image, size_hw, record, caption, augmenting, self._preprocessing, rng)
        texts = draw_descriptions(shown.descriptions, self._settings.max_descriptions, rng)
        return Sample(key, replace(shown, descriptions=texts), rejects)

    def read(self, row: int, rejects: Rejects) -> tuple[str, DecodedImage, Record]:
        """Read a picture with its key and the usable part of its record.

        Raises:
            BadSample: the sample cannot be used.
        """
        # The smallest crop is enlarged most: decode at a size that leaves it as sharp as the input.
        enlargement = 1 / math.sqrt(self._settings.augment.crop_scale[0])
        height, width = self._preprocessing.size_hw
        target_hw = math.ceil(height * enlargement), math.ceil(width * enlargement)
        limits = self._settings.limits
        key, decoded, record = read_sample(self._source, row, rejects, limits=limits, target_size_hw=target_hw)
        return key, decoded, self._best(record)

    def _best(self, record: Record) -> Record:
        """Keep the regions of the highest scores, the first among equals."""
        good = [region for region in record.regions if region.score >= self._settings.min_score]
        ranked = sorted(good, key=lambda region: -region.score)
        return Record(record.captions, tuple(ranked[: self._settings.max_boxes]))


class TrainingData(Dataset[Sample | Rejects]):
    """Samples by their place in an epoch."""

    def __init__(self, samples: Samples, *, seed: int) -> None:
        """Take what makes samples, and the seed of every choice."""
        self._samples = samples
        self._seed = seed

    def __getitem__(self, place: Place) -> Sample | Rejects:
        """Make the sample of a place, or return the faults of all samples that were tried for it."""
        epoch, slot, row = place
        rejects = Rejects()
        for attempt in range(_TRIES):
            rng = np.random.default_rng([self._seed, epoch, slot, attempt])
            rejects.seen += 1
            try:
                chosen = row if attempt == 0 else int(rng.integers(len(self._samples)))
                return self._samples.make(chosen, rng, rejects)
            except BadSample as fault:
                rejects.samples[fault.reason] += 1
        return rejects


class Loader:
    """Batches of one rank, epoch after epoch.

    Two ranks with half the batch size each see together, step by step, the batches of one process.

    Attributes:
        epoch: the current epoch, from 0.
        samples: number of samples taken in this epoch by all ranks together.
        rejects: counts of what this rank left out in the current epoch; after its last batch, in the epoch that ended.
    """

    def __init__(
        self,
        source: Source,
        samples: Samples,
        settings: DataSettings,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
        pin_memory: bool = False,
        tokenize: Tokenize | None = None,
    ) -> None:
        """Start at the first sample of epoch 0.

        Args:
            source: gives the number of samples and the blocks in which they are shuffled.
            samples: makes the samples from the source's rows: `Pictures`, or a token cache.
            settings: how blocks are mixed, and how many samples may be bad.
            batch_size: samples of one batch of this rank.
            seed: of every choice; the same on all ranks.
            rank: this process, 0 to `ranks` - 1.
            ranks: number of processes.
            workers: processes that prepare batches; their number changes no batch.
            pin_memory: whether tensors are put into pinned memory.
            tokenize: tokenises the texts of each batch, in the process that prepares it; None: they stay texts.
        """
        self.epoch = 0
        self.samples = 0
        self.rejects = Rejects()
        self._source, self._samples, self._settings, self._seed = source, samples, settings, seed
        self._batch_size, self._rank, self._ranks = batch_size, rank, ranks
        self._workers, self._pin_memory, self._tokenize = workers, pin_memory, tokenize

    @property
    def length(self) -> int:
        """Count the samples of the data, good and bad."""
        return len(self._source)

    @property
    def steps_per_epoch(self) -> int:
        """Count the batches of a whole epoch; samples that do not fill a batch of all ranks are left out of it."""
        return max(1, len(self._source) // self._step)

    @property
    def steps_left(self) -> int:
        """Count the batches left in the current epoch."""
        return max(0, (len(self._source) - self.samples) // self._step) if self.samples else self.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch.

        Raises:
            DataError: more than the allowed share of the samples is bad; the message gives the counts.
        """
        if self.samples == 0:
            self.rejects = Rejects(parts=Counter(self._source.parts))
        batches: DataLoader[Any] = DataLoader(
            TrainingData(self._samples, seed=self._seed),
            batch_sampler=self._places(),
            num_workers=self._workers,
            collate_fn=partial(_collate, tokenize=self._tokenize),
            pin_memory=self._pin_memory,
            generator=torch.Generator(),  # the default would draw from the random numbers of the training loop
        )
        for batch in batches:
            self._count(batch if isinstance(batch, Rejects) else batch.rejects)
            if isinstance(batch, Rejects):
                raise DataError(f"{_TRIES} samples in a row cannot be used; {self.rejects.report()}")
            self.samples += self._step
            yield batch
        self._check_bad_share(from_count=1)
        self.epoch, self.samples = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position, for a checkpoint, as plain JSON values."""
        return {
            "epoch": self.epoch,
            "samples": self.samples,
            "seed": self._seed,
            "length": len(self._source),
            "rejects": self.rejects.to_json(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a position of `state_dict`; the number of ranks and the batch size may have changed.

        Raises:
            DataError: the position belongs to another seed or other data.
        """
        for name, now in (("seed", self._seed), ("length", len(self._source))):
            if state[name] != now:
                raise DataError(f"the data's {name} was {state[name]} and is {now}; this run cannot be resumed with it")
        self.epoch, self.samples = int(state["epoch"]), int(state["samples"])
        self.rejects = Rejects.from_json(state["rejects"])

    @property
    def _step(self) -> int:
        return self._batch_size * self._ranks

    def _places(self) -> Iterator[list[Place]]:
        """Yield the places of this rank's batches, each list when it is needed: only the order itself is in memory."""
        order = epoch_order(self._source.block_sizes, self._settings.blocks_at_once, seed=self._seed, epoch=self.epoch)
        epoch, start, steps = self.epoch, self.samples + self._rank * self._batch_size, self.steps_left
        for first in range(start, start + steps * self._step, self._step):
            yield [(epoch, slot, int(order[slot % len(order)])) for slot in range(first, first + self._batch_size)]

    def _count(self, rejects: Rejects) -> None:
        self.rejects.add(rejects)
        self._check_bad_share(from_count=_JUDGED_FROM)

    def _check_bad_share(self, *, from_count: int) -> None:
        allowed = self._settings.max_bad_share
        if self.rejects.bad > allowed * max(self.rejects.seen, from_count):
            raise DataError(f"more than {allowed:.2%} of the samples are bad: {self.rejects.report()}")


def draw_descriptions(
    descriptions: Sequence[Sequence[str]], most: int, rng: np.random.Generator
) -> tuple[tuple[str, ...], ...]:
    """Draw up to `most` descriptions of each box, in their order."""
    return tuple(
        tuple(texts)
        if len(texts) <= most
        else tuple(texts[row] for row in sorted(rng.choice(len(texts), most, replace=False).tolist()))
        for texts in descriptions
    )


def epoch_order(
    block_sizes: Sequence[int], blocks_at_once: int, *, seed: int, epoch: int
) -> NDArray[np.signedinteger[Any]]:
    """Shuffle blocks, then the samples of every few blocks together.

    Args:
        block_sizes: samples of each block, in the order of their rows.
        blocks_at_once: number of blocks whose samples are mixed.
        seed: of the order.
        epoch: gives every epoch another order.

    Returns:
        (N), every row once; int32, 4 bytes a sample, where the row numbers fit.
    """
    rng = np.random.default_rng([seed, epoch])
    sizes = np.asarray(block_sizes, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    blocks = rng.permutation(len(sizes))
    total = int(sizes.sum())
    dtype = np.int32 if total <= np.iinfo(np.int32).max else np.int64
    order: NDArray[np.signedinteger[Any]] = np.empty(total, dtype=dtype)
    end = 0
    for first in range(0, len(blocks), blocks_at_once):
        begin = end
        for block in blocks[first : first + blocks_at_once]:
            start, end = end, end + int(sizes[block])
            order[start:end] = np.arange(starts[block], starts[block] + sizes[block])
        rng.shuffle(order[begin:end])
    return order


def _collate(items: Sequence[Sample | Rejects], *, tokenize: Tokenize | None) -> Batch | Rejects:
    """Make a batch; if a slot could not be filled, return the faults of all samples instead."""
    samples = [item for item in items if isinstance(item, Sample)]
    if len(samples) == len(items):
        return collate(samples, tokenize)
    rejects = Rejects()
    for item in items:
        rejects.add(item.rejects if isinstance(item, Sample) else item)
    return rejects
