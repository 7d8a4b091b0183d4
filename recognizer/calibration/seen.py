"""The images that a calibration was fitted on, by their content, so that figures of them are not taken for others'."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from memory import Memory
from memory.durable import file_sha256, replacing
from memory.remote import CALIBRATION
from memory.wording import counted
from recognizer.errors import RecognizerError
from recognizer.evaluation.labelled import LabelledSet
from recognizer.images import ImageItem
from recognizer.memory_settings import read_calibration

_SUFFIX = ".images"


def write_seen(settings: Path, hashes: Collection[str]) -> None:
    """Write the images that a calibration was fitted on beside its settings file.

    Args:
        settings: the settings file.
        hashes: sha256 of the images' files.

    Raises:
        OutputUnusable: the disk refuses.
    """
    with replacing(settings.with_suffix(_SUFFIX)) as draft:
        draft.write_text("".join(f"{digest}\n" for digest in sorted(set(hashes))), encoding="ascii")


def seen_images(memory: Memory, items: Sequence[ImageItem]) -> list[bool]:
    """Tell which images the calibration of a memory was fitted on; none without one, or with one of other tables.

    A memory on an object store has the calibration without the list of its images.
    """
    path = (memory.directory / CALIBRATION).with_suffix(_SUFFIX)
    if read_calibration(memory) is None or not path.is_file():
        return [False] * len(items)
    seen = frozenset(path.read_text(encoding="ascii", errors="replace").split())
    return [_digest(item) in seen for item in items]


def without_seen(labelled: LabelledSet, seen: Sequence[bool]) -> LabelledSet:
    """Return the images that a calibration was not fitted on; `seen` as from `seen_images`.

    Raises:
        RecognizerError: it was fitted on all.
    """
    kept = [place for place, one in enumerate(seen) if not one]
    if not kept:
        raise RecognizerError(
            f"`calibrate` was fitted on all {counted(len(seen), 'image')} of this set, so none is unseen. Give others"
        )
    return replace(
        labelled, items=[labelled.items[place] for place in kept], rows=[labelled.rows[place] for place in kept]
    )


def seen_sentence(seen: Sequence[bool]) -> str | None:
    """Say how many images a calibration was fitted on; None where there are none."""
    count = sum(seen)
    if not count:
        return None
    return (
        f"warning: `recognizer calibrate` fitted on {count} of these {counted(len(seen), 'image')}, so the figures are "
        "better than those of new images; --unseen evaluates on the others alone"
    )


def _digest(item: ImageItem) -> str:
    try:
        return file_sha256(item.path)
    except OSError:  # it has a row of its own among the failed ones
        return ""
