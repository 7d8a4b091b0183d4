"""The threshold of the rule by negative labels, on images that show the categories and need no labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memory import Memory
from recognizer.calibration.report import fitted_section, write_content
from recognizer.errors import RecognizerError
from recognizer.evaluation.encode import Failures, encode_labelled
from recognizer.images import ImageItem
from recognizer.memory_settings import calibration_file, calibration_place, memory_identity, read_calibration
from recognizer.recognizer import Recognizer
from recognizer.settings import Settings
from recognizer.unknown.rule import fewest_images
from recognizer.unknown.settings import UnknownSettings


@dataclass(frozen=True, slots=True)
class KnownFit:
    """A threshold fitted on images of the categories.

    Attributes:
        unknown: the fitted settings.
        images: how many were used.
        failures: the images that could not be decoded.
    """

    unknown: UnknownSettings
    images: int
    failures: Failures


def require_usable(memory: Memory, settings: Settings, images: int) -> None:
    """Refuse before anything is encoded what cannot be fitted.

    Raises:
        RecognizerError: no negative labels decide, or the images are too few for the rate.
    """
    if not memory.info().negatives or settings.unknown.rule == "confidence":
        raise RecognizerError(
            "--known fits the rule by negative labels, and this memory has none, or unknown.rule is confidence. Build "
            "it again with --unknown negatives: texts that it holds are not encoded again"
        )
    if images < fewest_images(settings.unknown.rate):
        raise _too_few(images, settings.unknown.rate)


def _too_few(images: int, rate: float) -> RecognizerError:
    return RecognizerError(
        f"a rate of {rate:g} needs at least {fewest_images(rate)} images of the categories; there are {images}. Add "
        "images, or set a higher unknown.rate"
    )


def calibrate_known(
    recognizer: Recognizer, items: Sequence[ImageItem], *, progress: Callable[[int], None] | None = None
) -> KnownFit:
    """Encode images that show categories of the memory, and fit the threshold on them.

    Args:
        recognizer: encoder, memory and settings, of which the rate counts.
        items: the images; which category each shows need not be known.
        progress: called with the number of images done since the last call.

    Raises:
        RecognizerError: no negative labels decide, or the images are too few for the rate.
    """
    require_usable(recognizer.memory, recognizer.settings, len(items))
    failures = Failures()
    batches = encode_labelled(
        recognizer.encoder,
        items,
        np.zeros(len(items), np.int64),
        failures,
        settings=recognizer.settings,
        features=recognizer.features,
        progress=progress,
    )
    empty = np.zeros((0, recognizer.encoder.card.dim), np.float32)
    images = np.concatenate([empty, *(batch.features.image for batch in batches)])
    unknown = recognizer.negatives.fit(images) if recognizer.negatives is not None else None
    if unknown is None:
        raise _too_few(len(images), recognizer.settings.unknown.rate)
    return KnownFit(unknown, len(images), failures)


def write_known(fit: KnownFit, recognizer: Recognizer, path: Path | None = None) -> str | Path:
    """Write the threshold into the settings file, beside what was fitted for this memory before.

    Args:
        fit: what to write.
        recognizer: the one that was calibrated.
        path: of the file; by default in the memory's directory, where a run finds it.

    Returns:
        The settings file.

    Raises:
        OutputUnusable: the disk refuses.
        SettingsError: the file that is there was changed.
    """
    memory = recognizer.memory
    basis = {**memory_identity(memory), "known_images": fit.images}
    with calibration_file(memory, path) as file:
        earlier = read_calibration(memory, file) or {}
        write_content({"calibration": basis, **earlier, "unknown": fitted_section(fit.unknown)}, file)
    return path or calibration_place(memory)
