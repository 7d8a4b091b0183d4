"""Search among stored features: the images nearest to a vector, whole and by region, and groups of copies."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memory.errors import printable_path
from memory.index import inner_products
from memory.remote.address import Address, cache_folder, is_address
from recognizer.features.files import FileHashes
from recognizer.features.store import FeaturesError, StoredEncoder, stored_encoders
from recognizer.features.stored_image import StoredImage
from recognizer.features.table import FeatureTable
from recognizer.results.ledger import stamp_file

Vector = NDArray[np.float32]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Nearest:
    """An image near a vector.

    Attributes:
        path: of its file.
        cosine: of the vector and the image, or its nearest region.
        box_xyxy: of that region, in pixels of the displayed image; None: the whole image.
    """

    path: bytes
    cosine: float
    box_xyxy: Box | None = None


@dataclass(frozen=True, slots=True)
class Near:
    """The images near a vector, nearest first: as a whole, and by their nearest regions."""

    whole: Sequence[Nearest]
    by_region: Sequence[Nearest]


class StoredFolder:
    """The stored images of one encoder whose files are still there and unchanged.

    Args:
        folder: of features, or its address.
        model: name of the encoder; needed where the folder has features of several.
        warn: called with a sentence where something cannot be read.

    Attributes:
        encoder: that made the features.

    Raises:
        FeaturesError: the folder holds no features, or those of several encoders and none is chosen.
    """

    def __init__(self, folder: str | Path, *, model: str | None = None, warn: Callable[[str], None]) -> None:
        """Open the table of the encoder, and look for the files."""
        self.encoder = _choose(folder, model)
        self._table = FeatureTable(
            self.encoder.place, self.encoder.card.dim, writable=False, with_failures=False, warn=warn
        )
        local = cache_folder("features", Address.parse(str(folder))) if is_address(folder) else Path(folder)
        files = FileHashes(local, writable=False, warn=warn)
        self._paths: dict[str, list[bytes]] = {}
        for path, stamp in files.all().items():
            if stamp.is_untouched(stamp_file(path)):
                self._paths.setdefault(str(stamp.sha256), []).append(path)
        files.close()

    def near(self, vector: Vector, count: int, *, least_weight: float, without: str = "") -> Near:
        """Return the nearest images.

        Args:
            vector: (D,) unit.
            count: of images in either list, at most.
            least_weight: regions of less weight are left out.
            without: hash of a file that is not listed.
        """
        whole: list[tuple[float, str]] = []
        by_region: list[tuple[float, str, Box]] = []
        for image in self._images():
            if image.sha256 == without:
                continue
            whole.append((float(image.image.astype(np.float32) @ vector), image.sha256))
            shown = np.flatnonzero(image.weights >= least_weight)
            if len(shown):
                cosines = image.regions[shown].astype(np.float32) @ vector
                best = int(cosines.argmax())
                x0, y0, x1, y1 = image.boxes_xyxy[shown[best]].tolist()
                by_region.append((float(cosines[best]), image.sha256, (x0, y0, x1, y1)))
        nearest = heapq.nlargest(count, whole)
        regions = heapq.nlargest(count, by_region)
        return Near(
            [Nearest(path, cosine) for cosine, sha256 in nearest for path in self._paths[sha256]][:count],
            [Nearest(path, cosine, box) for cosine, sha256, box in regions for path in self._paths[sha256]][:count],
        )

    def copies(self, group: Callable[[Sequence[str], Vector], NDArray[np.int64]]) -> list[list[Nearest]]:
        """Return the groups of files that are copies of one another, the largest first.

        Args:
            group: numbers the groups of images, from their hashes and their vectors (N, D).

        Returns:
            Groups of two files and more; each file with its cosine to the group's first one.
        """
        hashes: list[str] = []
        vectors: list[Vector] = []
        for image in self._images():
            hashes.append(image.sha256)
            vectors.append(image.image.astype(np.float32))
        if not hashes:
            return []
        members: dict[int, list[int]] = {}
        for row, number in enumerate(group(hashes, np.stack(vectors)).tolist()):
            members.setdefault(number, []).append(row)
        groups = []
        for rows in members.values():
            files = sorted((path, row) for row in rows for path in self._paths[hashes[row]])
            first = vectors[files[0][1]][None]
            group_of = [Nearest(path, float(inner_products(first, vectors[row][None])[0, 0])) for path, row in files]
            if len(group_of) > 1:
                groups.append(group_of)
        return sorted(groups, key=lambda files: (-len(files), files[0].path))

    def _images(self) -> Iterator[StoredImage]:
        """Yield the stored images that have a file, each once."""
        return (row for row in self._table.rows(self._paths) if isinstance(row, StoredImage))


def _choose(folder: str | Path, model: str | None) -> StoredEncoder:
    encoders = stored_encoders(folder)
    if not encoders:
        raise FeaturesError(
            f"{printable_path(folder)} holds no stored features; `recognizer embed IMAGES --features DIR` makes some"
        )
    chosen = [one for one in encoders if model in (None, one.card.name, one.place.name)]
    if len(chosen) != 1:
        names = "; ".join(f"{one.place.name} ({one.card.name}, {one.card.precision})" for one in encoders)
        what = f"of {model!r} are not there" if not chosen else "of several encoders are there"
        raise FeaturesError(f"{printable_path(folder)}: features {what}; name one with --model: {names}")
    return chosen[0]
