"""The images that a calibration was fitted on, by their content, so that figures of them are not taken for others'."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from memory import Memory
from memory.durable import file_sha256, replacing
from memory.remote.address import Address
from memory.remote.objects import Content, Objects
from memory.wording import counted
from recognizer.errors import RecognizerError
from recognizer.evaluation.labelled import LabelledSet
from recognizer.images import ImageItem
from recognizer.memory_settings import calibration_place, read_calibration

_SUFFIX = ".images"
_MOST_BYTES = 2**28  # a line takes 65: four million images


def write_seen(settings: Path | str, hashes: Collection[str]) -> None:
    """Write the images that a calibration was fitted on beside its settings.

    Args:
        settings: the file, or its address in a memory on an object store.
        hashes: sha256 of the images' files.

    Raises:
        OutputUnusable: the disk refuses.
        ObjectStoreError: the store does.
    """
    lines = "".join(f"{digest}\n" for digest in sorted(set(hashes)))
    if isinstance(settings, str):
        objects, key = _stored(settings)
        objects.put(key, lines.encode("ascii"))
        return
    with replacing(settings.with_suffix(_SUFFIX)) as draft:
        draft.write_text(lines, encoding="ascii")


def seen_images(memory: Memory, items: Sequence[ImageItem]) -> list[bool]:
    """Tell which images the calibration of a memory was fitted on; none without one, or with one of other tables.

    Raises:
        ObjectStoreError: the store of the memory does not answer.
    """
    seen = frozenset[str]() if read_calibration(memory) is None else _read_seen(calibration_place(memory))
    return [_digest(item) in seen for item in items] if seen else [False] * len(items)


def _read_seen(settings: Path | str) -> frozenset[str]:
    if isinstance(settings, str):
        objects, key = _stored(settings)
        found = objects.get(key, most_bytes=_MOST_BYTES)
        content = found.data if isinstance(found, Content) else b""
    else:
        path = settings.with_suffix(_SUFFIX)
        content = path.read_bytes() if path.is_file() else b""
    return frozenset(content.decode("ascii", errors="replace").split())


def _stored(settings: str) -> tuple[Objects, str]:
    """Return the objects of a memory, and the key of the list beside the settings at an address."""
    place, _, name = settings.rpartition("/")
    return Objects(Address.parse(place)), PurePosixPath(name).with_suffix(_SUFFIX).name


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
