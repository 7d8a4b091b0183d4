"""Stored features on the command line: which folder, and whether a command can use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memory.errors import printable, printable_path
from memory.remote.address import is_address
from recognizer.console import note
from recognizer.errors import RecognizerError

if TYPE_CHECKING:
    from recognizer.encoder import Encoder
    from recognizer.features import FeatureStore
    from recognizer.images import ImageLimits
    from recognizer.recognizer import Recognizer
    from recognizer.settings import Settings

USER_FOLDER = "user"
"""The name that stands for a folder in the user's cache."""


def features_folder(name: str) -> str | Path:
    """Return the folder or the address that `--features` or the setting `run.features` names.

    Raises:
        RecognizerError: it is a folder of other things, such as the images themselves.
    """
    if name != USER_FOLDER:
        return name if is_address(name) else _of_its_own(Path(name))
    from rerank.cache import default_cache_path

    return default_cache_path().with_name("features")


def _of_its_own(folder: Path) -> Path:
    """Return a folder that is new, empty or has stored features."""
    from recognizer.features.store import ENCODER_NAME, LOCK_NAME

    if not folder.is_dir() or (folder / LOCK_NAME).exists() or any(folder.glob(f"*/{ENCODER_NAME}")):
        return folder
    other = next(folder.iterdir(), None)
    if other is not None:
        raise RecognizerError(
            f"--features {printable_path(folder)} holds other files ({printable(other.name)}) and no stored features; "
            "give a new or an empty folder"
        )
    return folder


@contextmanager
def opened_features(
    name: str | None, encoder: Encoder, limits: ImageLimits, *, retry_errors: bool = False
) -> Iterator[FeatureStore | None]:
    """Open the stored features of an encoder; yields None where no folder is named."""
    if name is None:
        yield None
        return
    from recognizer.features import FeatureStore

    folder = features_folder(name)
    with FeatureStore(folder, encoder.card, limits, retry_errors=retry_errors, warn=note) as features:
        yield features


@contextmanager
def use_features(
    recognizer: Recognizer, option: str | None, *, retry_errors: bool = False, scratch: str | None = None
) -> Iterator[None]:
    """Let a recogniser use the stored features that `--features`, or else its settings, name.

    Args:
        recognizer: gets them.
        option: what `--features` was given; None: the setting `run.features` decides.
        retry_errors: images that could not be decoded are decoded again.
        scratch: a folder that takes them where none is named and a decoder finds regions: in a run that finds its
            boxes by itself, whole images are encoded for those, and their regions are read once more for the crops.
    """
    from recognizer.features import REGION_FLOOR

    settings = recognizer.settings
    named = option or settings.run.features
    name = usable_features(named, settings)
    wide_enough = min(settings.score.region_threshold, settings.boxes.least_weight) >= REGION_FLOOR
    if named is None and recognizer.encoder.has_decoder and wide_enough:
        name = scratch
    with opened_features(name, recognizer.encoder, settings.images, retry_errors=retry_errors) as features:
        recognizer.features = features
        yield


def usable_features(option: str | None, settings: Settings) -> str | None:
    """Return the folder that `--features`, or else the settings, name; None, and a note, where it lacks regions."""
    from recognizer.features import REGION_FLOOR

    name = option or settings.run.features
    if name is not None and settings.score.region_threshold < REGION_FLOOR:
        note(
            f"stored features are not used: they lack regions of weight below {REGION_FLOOR:g}, and "
            f"score.region_threshold is {settings.score.region_threshold:g}"
        )
        return None
    return name
