"""A folder of stored features: one table per encoder, the hashes of files, and a lock for the one process that writes.

    DIR/files.sqlite            path, size, time of change -> hash of the content
    DIR/KEY/encoder.json        the encoder, and the limits under which images were decoded
    DIR/KEY/images.lance        hash of the content -> features, or why there are none

At an address on an object store there are the last two; the hashes of files, which are those of this machine, stand in
the user's cache. Several processes and machines may write there at a time.

KEY is a hash over all that features depend on beside the file, so other encoders, precisions and limits have other
tables.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from memory.durable import make_folder, replacing, try_lock
from memory.encoder_card import EncoderCard
from memory.errors import ObjectStoreError, WriteFailed, printable_path
from memory.remote.address import Address, cache_folder, is_address
from memory.remote.objects import Content, Objects
from memory.wording import counted
from recognizer.errors import RecognizerError
from recognizer.features.files import FileHashes, absolute
from recognizer.features.places import TableAddress, TableFolder, TablePlace
from recognizer.features.stored_image import REGION_FLOOR as REGION_FLOOR
from recognizer.features.stored_image import Stored, StoredFailure, StoredImage
from recognizer.features.table import FeatureTable, count_images
from recognizer.images import ImageError, ImageItem, ImageLimits
from recognizer.images.content import HEAD_BYTES, content_kind
from recognizer.images.file_bytes import read_file_bytes
from recognizer.results.ledger import ImageStamp, stamp_file

if TYPE_CHECKING:
    from recognizer.pipeline import EncodedBatch

SCHEMA = 1
"""Rises when the same file and encoder may give other features, or the columns change."""
ENCODER_NAME = "encoder.json"
LOCK_NAME = "features.lock"
# These failures follow from the content and the limits; the others may be gone the next time.
_LASTING = frozenset({"E_NOT_IMAGE", "E_TRUNCATED", "E_DECODE", "E_BOMB", "E_ASPECT"})
_KEY_DIGITS = 16
# The card of an encoder holds its settings; more is not read of a file that may be somebody else's.
_MOST_ENCODER_BYTES = 2**20


class FeaturesError(RecognizerError):
    """A folder of features that cannot be used."""


@dataclass(frozen=True, slots=True)
class StoredEncoder:
    """An encoder whose features a folder holds.

    Attributes:
        place: of its table.
        card: its identity, and how to load it.
        limits: under which its images were decoded, without those of time and memory.
    """

    place: TablePlace
    card: EncoderCard
    limits: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of a file before it is decoded.

    Attributes:
        stamp: size, time of change and, where they were found out, the hash.
        stored: its features or its failure; None: neither is stored.
    """

    stamp: ImageStamp
    stored: Stored | None


class FeatureStore:
    """The stored features of one encoder.

    A context manager: rows that wait are written at its end. What goes wrong with the disk costs stored features, one
    warning each, and no result.

    Args:
        folder: is made if it is missing; or an address on an object store.
        card: of the encoder.
        limits: of the images.
        retry_errors: images that could not be decoded are decoded again.
        warn: called with a sentence where features cannot be read or stored.

    Attributes:
        found: number of images looked up that were stored.
        encoded: number of the others.

    Raises:
        FeaturesError: the folder is a file, or cannot be made.
    """

    def __init__(
        self,
        folder: str | Path,
        card: EncoderCard,
        limits: ImageLimits,
        *,
        retry_errors: bool = False,
        warn: Callable[[str], None],
    ) -> None:
        """Open the folder; the first process that does so is the one that writes."""
        self.folder = folder
        self.card = card
        self._limits = limits
        self._warn = warn
        self._lock: int | None = None
        self._turn = threading.Lock()  # one thread looks up while another keeps
        self.found = self.encoded = 0
        decisive = limits.model_dump(mode="json", exclude={"max_seconds", "max_memory_bytes"})
        key = _key(card, decisive)
        place, local, writable = (
            self._open_address(Address.parse(str(folder)), key, card, decisive)
            if is_address(folder)
            else self._open_folder(Path(folder), key, card, decisive)
        )
        self.files = FileHashes(local, writable=writable, warn=warn)
        self.table = FeatureTable(place, card.dim, writable=writable, with_failures=not retry_errors, warn=warn)

    def _open_folder(
        self, folder: Path, key: str, card: EncoderCard, limits: dict[str, Any]
    ) -> tuple[TablePlace, Path, bool]:
        """Return where the table is, where the hashes of files are, and whether features may be stored."""
        own = folder / key
        writable = False
        try:
            make_folder(folder)
            writable = self._take_lock(folder)
            if writable:
                make_folder(own)
                _write_encoder(own, card, limits)
        except (OSError, WriteFailed) as error:
            if not folder.is_dir():
                raise FeaturesError(f"{printable_path(folder)} cannot be a folder of features: {error}") from error
            self._warn(f"features in {printable_path(folder)} are used, but none are stored: {error}")
            writable = False
        self._count_others(folder, own)
        return TableFolder(own), folder, writable

    def _open_address(
        self, address: Address, key: str, card: EncoderCard, limits: dict[str, Any]
    ) -> tuple[TablePlace, Path, bool]:
        """Do the same at an address; a store that does not answer costs stored features and no result."""
        own, local = address.below(key), cache_folder("features", address)
        content = _encoder_content(card, limits)
        try:
            objects = Objects(own)
            found = objects.get(ENCODER_NAME, most_bytes=_MOST_ENCODER_BYTES)
            if not isinstance(found, Content) or found.data != content:
                objects.put(ENCODER_NAME, content)
        except ObjectStoreError as error:
            self._warn(f"stored features are not used, and none are stored: {error}")
            return TableFolder(local / "none"), local, False
        return TableAddress(own), local, True

    @property
    def writable(self) -> bool:
        """Whether features are stored."""
        return self.table.writable

    def look_up(self, items: Sequence[ImageItem]) -> list[Known]:
        """Find what is stored of some images; only files that are new or have changed are read."""
        with self._turn:
            return self._look_up(items)

    def _look_up(self, items: Sequence[ImageItem]) -> list[Known]:
        stamps = self._stamps(items)
        stored = self.table.read([stamp.sha256 for stamp in stamps if stamp.sha256 is not None])
        known = [Known(stamp, stored.get(stamp.sha256 or "")) for stamp in stamps]
        new = sum(one.stored is None for one in known)
        self.found, self.encoded = self.found + len(known) - new, self.encoded + new
        return known

    def has(self, items: Sequence[ImageItem]) -> list[bool]:
        """Say of some images whether `look_up` would find them; no features are read."""
        with self._turn:
            return [stamp.sha256 in self.table for stamp in self._stamps(items)]

    def _stamps(self, items: Sequence[ImageItem]) -> list[ImageStamp]:
        """Return the stamps of image files; those that are new or have changed are hashed where that can help."""
        paths = [absolute(item.path) for item in items]
        before = self.files.get(paths)
        stamps: list[ImageStamp] = []
        changed: dict[bytes, ImageStamp] = {}
        for path in paths:
            now, earlier = stamp_file(path), before.get(path)
            if earlier is not None and earlier.is_untouched(now):
                now = earlier
            elif len(self.table):  # the content may be stored under another name
                now = self._with_hash(path, now)
                if now.sha256 is not None:
                    changed[path] = now
            stamps.append(now)
        self.files.put(changed)
        return stamps

    def keep(self, batch: EncodedBatch, known: Sequence[Known]) -> None:
        """Store a batch that was encoded.

        Args:
            batch: its features are rounded to float16.
            known: what was known of its images before they were read.
        """
        self.keep_outcomes(batch.items, outcomes_of(batch), known)

    def keep_outcomes(
        self, items: Sequence[ImageItem], outcomes: Sequence[StoredImage | ImageError], known: Sequence[Known]
    ) -> None:
        """Store what came of some images.

        Args:
            items: (B,) the images.
            outcomes: (B,) their features, or why there are none.
            known: (B,) what was known of them before they were read.
        """
        rows: list[Stored] = []
        stamps: dict[bytes, ImageStamp] = {}
        for item, outcome, one in zip(items, outcomes, known, strict=True):
            row = outcome if isinstance(outcome, StoredImage) else self._lasting(item.path, outcome, one.stamp)
            if row is not None and row.sha256:
                rows.append(row)
                stamps[absolute(item.path)] = replace(one.stamp, sha256=row.sha256)
        with self._turn:
            self.table.add(rows)
            self.files.put(stamps)

    def close(self) -> None:
        """Write what waits, and let other processes write."""
        with self._turn:
            try:
                self.table.flush()
            finally:
                self.files.close()
                if self._lock is not None:
                    os.close(self._lock)
                    self._lock = None

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _take_lock(self, folder: Path) -> bool:
        """Become the process that writes; warn if another one is."""
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if try_lock(descriptor):
            self._lock = descriptor
            return True
        os.close(descriptor)
        self._warn(
            f"another process is storing features in {printable_path(folder)}; this one uses them and stores none"
        )
        return False

    def _count_others(self, folder: Path, own: Path) -> None:
        others = [one for one in stored_encoders(folder) if one.place.name != own.name]
        count = sum(count_images(one.place) for one in others)
        if count:
            names = ", ".join(sorted({one.card.name for one in others}))
            self._warn(
                f"{printable_path(folder)} also holds features of {counted(count, 'image')} that are not used: of "
                f"other encoders, versions, precisions or image limits ({names})"
            )

    def _with_hash(self, path: bytes, stamp: ImageStamp) -> ImageStamp:
        """Read a file to find out its hash; one that cannot be read has none."""
        data = self._content(path)
        return stamp if data is None else replace(stamp, sha256=hashlib.sha256(data).hexdigest())

    def _lasting(self, path: bytes, error: ImageError, stamp: ImageStamp) -> StoredFailure | None:
        """Return what is stored of a file that could not be decoded; None where the failure may not last."""
        if error.code not in _LASTING:
            return None
        data = self._content(path)
        if data is None or not stamp.is_untouched(stamp_file(path)):
            return None  # it was replaced meanwhile, and another content failed
        if content_kind(data[:HEAD_BYTES]) == "HEIC":
            return None  # it can be decoded once pillow-heif is installed
        return StoredFailure(hashlib.sha256(data).hexdigest(), error.code, error.reason)

    def _content(self, path: bytes) -> bytes | None:
        """Read a file; None where that fails, and decoding says why."""
        try:
            return read_file_bytes(path, max_bytes=self._limits.max_file_bytes)
        except ImageError:
            return None


def outcomes_of(batch: EncodedBatch) -> list[StoredImage | ImageError]:
    """Return the features of each image of a batch, as they are stored, or its error."""
    outcomes: dict[int, StoredImage | ImageError] = {
        position: error for position, error in enumerate(batch.errors) if error is not None
    }
    for row, position in enumerate(batch.positions):
        assert batch.features is not None
        outcomes[position] = StoredImage.of(batch.features, row, sha256=batch.hashes[row], size_hw=batch.sizes_hw[row])
    return [outcomes[position] for position in range(len(batch.items))]


def stored_encoders(folder: str | Path) -> list[StoredEncoder]:
    """Return the encoders whose features a folder or an address holds, sorted by the names of their folders.

    Raises:
        ObjectStoreError: the store does not answer or refuses.
    """
    cards: Iterable[tuple[TablePlace, bytes | None]]
    cards = _cards_at(Address.parse(str(folder))) if is_address(folder) else _cards_in(Path(folder))
    found: list[StoredEncoder] = []
    for place, data in cards:
        try:
            content = json.loads(data or b"")
            if content["schema"] == SCHEMA:
                found.append(StoredEncoder(place, EncoderCard.from_json(content["encoder"]), content["limits"]))
        except (ValueError, TypeError, KeyError):  # a damaged one: the next writer of its features mends it
            continue
    return found


def _cards_in(folder: Path) -> Iterator[tuple[TablePlace, bytes | None]]:
    """Yield the place of each table in a folder, and the card of its encoder."""
    for path in sorted(folder.glob(f"*/{ENCODER_NAME}")):
        try:
            yield TableFolder(path.parent), path.read_bytes()
        except OSError:
            continue


def _cards_at(address: Address) -> Iterator[tuple[TablePlace, bytes | None]]:
    """Do the same at an address."""
    objects = Objects(address)
    for key in sorted(key for key in objects.list_keys() if key.partition("/")[2] == ENCODER_NAME):
        found = objects.get(key, most_bytes=_MOST_ENCODER_BYTES)
        yield TableAddress(address.below(key.partition("/")[0])), found.data if isinstance(found, Content) else None


def _key(card: EncoderCard, limits: dict[str, Any]) -> str:
    content = json.dumps([SCHEMA, card.fingerprint, card.precision, limits], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:_KEY_DIGITS]


def _write_encoder(folder: Path, card: EncoderCard, limits: dict[str, Any]) -> None:
    content = _encoder_content(card, limits)
    path = folder / ENCODER_NAME
    if not path.exists() or path.read_bytes() != content:
        with replacing(path) as draft:
            draft.write_bytes(content)


def _encoder_content(card: EncoderCard, limits: dict[str, Any]) -> bytes:
    return (json.dumps({"schema": SCHEMA, "encoder": card.to_json(), "limits": limits}, indent=2) + "\n").encode()
