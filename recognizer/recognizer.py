"""Recognising images: an encoder looks, a memory recalls, the score decides, and the evidence says why."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memory import Memory
from recognizer.agreement import make_retriever
from recognizer.cores import single_threads
from recognizer.encoder import Encoder, ImageFeatures
from recognizer.errors import RecognizerError
from recognizer.evidence import explain
from recognizer.features import FeatureStore, encode_or_read
from recognizer.hierarchy.ranks import ranks_above, ranks_of_groups
from recognizer.hierarchy.rule import label_rule
from recognizer.images import ImageItem, ImageSource, check_sources, list_images, require_images, source_items
from recognizer.memory_settings import carried_settings
from recognizer.notebook import RowList
from recognizer.pipeline import EncodedBatch, encode_batch, in_batches, load
from recognizer.presence import PresenceScorer
from recognizer.results.row import CandidateRow, ErrorRow, FoundLabel, ResultRow, Row
from recognizer.retrieval import Retrieved
from recognizer.score import PriorTerm, Rows, Scorer
from recognizer.settings import Settings, load_settings
from recognizer.unknown.rule import NegativesRule

if TYPE_CHECKING:
    from recognizer.prior import Prior
    from recognizer.results.row import EvidenceRow, KnownRow


class Recognizer:
    """Recognises images against the categories of one memory.

    Args:
        encoder: the one that built the memory.
        memory: an opened memory.
        settings: score weights and the rest; by default what the memory carries over the built-in defaults.
        only: rows of the categories that compete, ascending; None: all. Fewer are searched exactly, and their
            confidences are not calibrated, for a calibration is fitted on all.
        prior: how common the categories of the memory are; None: equally. With one, search is exact, and confidences
            are not calibrated, for a calibration is fitted without one.
        features: stored features, which folders use and add to; None: every image is encoded.

    Raises:
        EncoderMismatch: the memory was built by another encoder; the message names both.
        RecognizerError: several labels are asked for, and the regions of an image have no weight in the score; the
            prior excludes all categories that compete; the settings ask for another index than the memory has.
    """

    def __init__(
        self,
        encoder: Encoder,
        memory: Memory,
        *,
        settings: Settings | None = None,
        only: Rows | None = None,
        prior: Prior | None = None,
        features: FeatureStore | None = None,
    ) -> None:
        """Check that encoder and memory belong together, and choose the search."""
        memory.require_encoder(encoder.card)
        self.encoder = encoder
        self.memory = memory
        self.features = features
        self.settings = settings or load_settings(base=carried_settings(memory))
        vectors = memory.vectors
        if only is not None or prior is not None:
            self.settings = self.settings.model_copy(update={"score": self.settings.score.uncalibrated()})
        if only is not None:
            vectors = vectors.take(only)
        temperature = self.settings.score.temperature or encoder.default_temperature
        term = None
        if prior is not None:
            logarithms = prior.logarithms if only is None else prior.logarithms[only]
            if not np.isfinite(logarithms).any():
                raise RecognizerError("the prior of every category that competes is 0; leave --prior or --only out")
            term = PriorTerm(logarithms, temperature)
        fits = None
        if only is None and len(vectors.exemplars):  # a fit is one of all categories
            from recognizer.stored_fit import StoredFit

            fits = StoredFit.of(memory, self.settings.score)
        self.scorer = Scorer(vectors, self.settings.score, term, fits)
        wanted = self.settings.run.index
        index = memory.index_kind if wanted == "auto" else wanted
        approximate = index != "exact" and only is None and prior is None
        if approximate and index != memory.index_kind:
            raise RecognizerError(
                f"run.index is {index}, but the memory was built with --index {memory.index_kind}; build it again with "
                f"--index {index}, or leave run.index out"
            )
        self.retriever = make_retriever(memory, self.scorer, temperature=temperature, approximate=approximate)
        self.negatives = NegativesRule.of_settings(
            vectors, self.settings.unknown, encoder.default_temperature, comparable=only is None
        )
        rolls_up = self.settings.score.roll_up is not None
        self._ranks = ranks_of_groups(vectors.categories) if rolls_up else {}
        several = self.settings.run.all_above is not None
        self._presence = PresenceScorer(self.scorer, temperature) if several else None

    @classmethod
    def open(
        cls,
        memory: Memory | str | Path,
        *,
        settings: Settings | None = None,
        only: Rows | None = None,
        prior: Prior | None = None,
        device: str = "auto",
        precision: str = "auto",
        onnx: Path | None = None,
    ) -> Recognizer:
        """Load the encoder that a memory names.

        Args:
            memory: a memory, or its directory.
            settings: as for the class.
            only: as for the class.
            prior: as for the class.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
            precision: `auto`, `fp32` or `bf16`.
            onnx: folder of the encoder's ONNX files, as for `Encoder.load`.
        """
        opened = memory if isinstance(memory, Memory) else Memory.open(memory)
        encoder = Encoder.from_spec(opened.encoder.spec, device=device, precision=precision, onnx=onnx)
        return cls(encoder, opened, settings=settings, only=only, prior=prior)

    def recognize(self, images: Sequence[ImageSource], *, keys: Sequence[str] | None = None) -> RowList:
        """Recognise a few images; `recognize_folder` is for many.

        Args:
            images: paths, bytes of files or PIL images of any mode, mixed as you like. Each is turned as its EXIF says,
                and boxes of the evidence are in pixels of the displayed image.
            keys: the `path` of each row. By default as in a run over the same files: the path relative to the deepest
                folder that holds all of them. An image without a file has its position.

        Returns:
            One row per image, in order; an image that cannot be decoded has an `ErrorRow`. A notebook shows the rows
            with their images.

        Raises:
            ImageTypeError: an image is of another type.
            RecognizerError: there are not as many keys as images.
        """
        sources = check_sources(images)
        if keys is not None and len(keys) != len(sources):
            raise RecognizerError(f"{len(keys)} keys for {len(sources)} images; give one for each image, or none")
        rows = RowList()
        batch_size = self.settings.run.batch_size
        for number, items in in_batches(source_items(sources, keys), batch_size):
            start = number * batch_size
            own = sources[start : start + len(items)]
            loaded = [load(self.encoder, source, self.settings.images) for source in own]
            batch = self.batch_rows(encode_batch(self.encoder, number, items, loaded))
            rows += [replace(row, image=source) for row, source in zip(batch, own, strict=True)]
        return rows

    def recognize_folder(
        self, images: Sequence[str | Path] | str | Path, *, warn: Callable[[str], object] = warnings.warn
    ) -> Iterator[Row]:
        """Recognise the images of a folder as `recognizer run` does, while later ones are decoded in other processes.

        Args:
            images: a folder, a glob, a file list or image files, or several of these, as for `list_images`.
            warn: receives a sentence about what was left out.

        Returns:
            The rows, in the order of the listing; each batch is recognised when its first row is asked for. An image
            that cannot be decoded has an `ErrorRow`.

        Raises:
            ImageInputError: the folder does not exist or holds no image.
        """
        listing = list_images(images)
        for problem in listing.problems:
            warn(f"left out: {problem.path}: {problem.reason}")
        require_images(listing, images)
        for line in listing.left_out:
            warn(line)
        settings = self.settings
        batches = encode_or_read(
            self.encoder,
            in_batches(listing, settings.run.batch_size),
            features=self.features,
            workers=settings.run.workers,
            limits=settings.images,
        )
        return (
            replace(row, image=os.fsdecode(item.path))
            for batch in batches
            for row, item in zip(self.batch_rows(batch), batch.items, strict=True)
        )

    def retrieve(self, batch: EncodedBatch) -> list[Retrieved]:
        """Find the candidates of the images of a batch that have features; the first half of `batch_rows`."""
        return [] if batch.features is None else self.retriever.retrieve(batch.features, self.settings.run.top_k)

    def batch_rows(self, batch: EncodedBatch, retrieved: Sequence[Retrieved] | None = None) -> list[Row]:
        """Return one row per image of a batch, in order; an image that failed has an `ErrorRow`.

        Args:
            batch: the images.
            retrieved: what `retrieve` returned; None: it is called here.
        """
        rows: dict[int, Row] = {
            position: ErrorRow(path=item.key, path_b64=item.key_base64, code=error.code, reason=error.reason)
            for position, (item, error) in enumerate(zip(batch.items, batch.errors, strict=True))
            if error is not None
        }
        if batch.features is not None:
            items = [batch.items[position] for position in batch.positions]
            found = self.rows(batch.features, items, sizes_hw=batch.sizes_hw, retrieved=retrieved)
            rows |= dict(zip(batch.positions, found, strict=True))
        return [rows[position] for position in range(len(batch.items))]

    def rows(
        self,
        features: ImageFeatures,
        items: Sequence[ImageItem],
        *,
        sizes_hw: Sequence[tuple[int, int]] = (),
        exclude: Sequence[str] = (),
        retrieved: Sequence[Retrieved] | None = None,
    ) -> list[ResultRow]:
        """Turn features into rows of the results.

        Args:
            features: of B images.
            items: (B,) the images; only their keys are read.
            sizes_hw: (B,) their heights and widths in pixels, for the rows; empty: the rows have none.
            exclude: per image the file hash whose exemplars are left out; empty: none.
            retrieved: (B,) their candidates; None: they are looked for here.
        """
        if retrieved is None:
            retrieved = self.retriever.retrieve(features, self.settings.run.top_k, exclude=exclude)
        known: Sequence[KnownRow | None] = [None] * len(retrieved)
        if self.negatives is not None:
            known = self.negatives.rows(features.image)
        rows, rule = [], label_rule(self.settings.score)
        with single_threads():
            for image, (item, best) in enumerate(zip(items, retrieved, strict=True)):
                evidence = explain(
                    self.scorer, features, image, best.rows.tolist(), exclude=exclude, kernels=best.kernels
                )
                labels = None if self._presence is None else self._labels(self._presence, features.take(image))
                size_hw = sizes_hw[image] if sizes_hw else (None, None)
                rows.append(self._row(item, size_hw, best, evidence, labels, known[image]).with_label(rule))
        return rows

    def _labels(self, scorer: PresenceScorer, image: ImageFeatures) -> list[FoundLabel]:
        labels = []
        for row, presence, box_xyxy in scorer.at_least(image, self.settings.run.all_above or 0.0):
            category = self.scorer.vectors.categories[row]
            labels.append(
                FoundLabel(category=category.name, group=category.group, presence=presence, box_xyxy=box_xyxy)
            )
        return labels

    def _row(
        self,
        item: ImageItem,
        size_hw: tuple[int, int] | tuple[None, None],
        retrieved: Retrieved,
        evidence: Sequence[Sequence[EvidenceRow]],
        labels: Sequence[FoundLabel] | None,
        known: KnownRow | None,
    ) -> ResultRow:
        score, keep = self.settings.score, self.settings.run.evidence or None
        categories = [self.scorer.vectors.categories[row] for row in retrieved.rows.tolist()]
        candidates = [
            CandidateRow(
                category=category.name,
                group=category.group,
                ranks=ranks_above(category, self._ranks),
                score=float(value),
                confidence=float(confidence),
                evidence=pieces[:keep],
            )
            for category, value, confidence, pieces in zip(
                categories, retrieved.scores, retrieved.confidences, evidence, strict=True
            )
        ]
        best = candidates[0] if candidates else None
        unknown = known.unknown if known is not None else None
        if known is None and score.calibrated and score.unknown_threshold is not None:
            unknown = best is None or best.confidence < score.unknown_threshold
        return ResultRow(
            path=item.key,
            path_b64=item.key_base64,
            height=size_hw[0],
            width=size_hw[1],
            label=None,
            confidence=None,
            calibrated=score.calibrated,
            unknown=unknown,
            candidates=candidates,
            group_confidence=retrieved.groups,
            labels=labels,
            known=known,
        )
