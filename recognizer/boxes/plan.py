"""What a run over boxes recognises: each box with its image, and the images that have no box.

Paths in a file of boxes are data: they are looked up among the images that the user named, and never opened as such. A
box whose path leads anywhere else has a row without a picture.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from memory.errors import printable
from memory.wording import counted
from recognizer.boxes.given import BoxFile, GivenBox
from recognizer.images import ImageError, ImageItem, Listing
from recognizer.images.key import display_key
from recognizer.images.rooted import path_under
from recognizer.results.row import box_key


@dataclass(frozen=True, slots=True)
class BoxItem(ImageItem):
    """One row of a run over boxes: a box of an image, or an image that has none.

    Attributes:
        box: as its file gives it; None for an image without a box.
        problem: why the image is not to be opened; None: it is.
    """

    box: GivenBox | None = None
    problem: ImageError | None = None

    @property
    def row_key(self) -> str:
        """The key of the row: that of the image, and that of the box behind it."""
        return box_key(self.key, None if self.box is None else self.box.id)


@dataclass(frozen=True, slots=True)
class BoxPlan:
    """The rows of a run over boxes, in order.

    Attributes:
        file: where the boxes are from.
        items: those of images in the order of the listing, boxes of an image in the order of the file; at the end those
            whose image is not there.
        notes: sentences that count what was left out and what is missing.
    """

    file: BoxFile
    items: Sequence[BoxItem]
    notes: Sequence[str] = ()

    @property
    def keys(self) -> Sequence[str]:
        """The keys of the rows."""
        return [item.row_key for item in self.items]

    @property
    def boxes(self) -> int:
        """Number of boxes."""
        return sum(item.box is not None for item in self.items)


def plan_boxes(file: BoxFile, listing: Listing) -> BoxPlan:
    """Give each box its image.

    Args:
        file: the boxes.
        listing: the images that the user named. A relative path of the file is one from the root of the listing, from
            the folder of the file, or from a folder above the root, as "val2017/1.jpg" in the images of val2017/.
    """
    lookup = _Lookup(file, listing)
    by_image: dict[int, list[GivenBox]] = {}
    lost: list[BoxItem] = []
    left_out = Counter(file.left_out)
    found: dict[str, int | ImageError | None] = {}
    for box in file.boxes:
        if box.image not in found:
            found[box.image] = lookup.find(box.image)
        place = found[box.image]
        if isinstance(place, int):
            by_image.setdefault(place, []).append(box)
        elif place is None:
            left_out["boxes of images that are not among those of the run"] += 1
        else:
            name = box.image.encode("utf-8", "surrogatepass")
            lost.append(BoxItem(name, b"", box, place))
    items: dict[str, BoxItem] = {}
    total = 0
    for number, image in enumerate(listing):
        own = [BoxItem(image.key_bytes, image.path, box) for box in by_image.get(number, ())]
        total += len(own)
        without = [] if number in lookup.refused else [BoxItem(image.key_bytes, image.path)]
        for item in own or without:
            items.setdefault(item.row_key, item)
    for item in lost:
        items.setdefault(item.row_key, item)
    twice = total + len(lost) - sum(item.box is not None for item in items.values())
    if twice:
        left_out["boxes that stand in the file twice"] += twice
    notes = _notes(left_out, lost, sum(item.box is None for item in items.values()))
    if lost and not total and listing:
        notes.append(
            f"no box has an image: the boxes name images such as {printable(lost[0].key, 80)!r}, and the folder holds "
            f"such as {printable(listing.keys[0], 80)!r}; give the folder that the paths of the boxes start from"
        )
    return BoxPlan(file, list(items.values()), notes)


def _notes(left_out: Counter[str], lost: Sequence[BoxItem], without: int) -> list[str]:
    notes = [f"left out: {', '.join(f'{what} {number}' for what, number in left_out.items())}"] if left_out else []
    codes = Counter(item.problem.code for item in lost if item.problem is not None)
    if codes:
        reasons = ", ".join(f"{number} {code}" for code, number in sorted(codes.items()))
        notes.append(f"boxes without an image: {reasons}, such as {printable(lost[0].key, 80)!r}; their rows say why")
    if without:
        notes.append(f"{counted(without, 'image')} without a box: status empty")
    return notes


class _Lookup:
    """Finds the images that a file of boxes names.

    Attributes:
        refused: places of listed images that lead out of the folder; the rows of their boxes say so.
    """

    def __init__(self, file: BoxFile, listing: Listing) -> None:
        self._root = listing.root
        self._folders = (listing.root, os.fsencode(file.path.resolve().parent))
        self._above = [os.fsencode(folder) for folder in Path(os.fsdecode(listing.root)).parents]
        self._by = file.by
        self.refused: set[int] = set()
        self._places: dict[bytes, int] = {}
        self._stems: dict[str, list[int]] = {}
        self._keys = {key: place for place, key in enumerate(listing.keys)} if self._by == "key" else {}
        for place, item in enumerate(listing):
            self._places[os.path.normpath(item.path)] = place
            if self._by == "stem":
                relative = display_key(os.path.relpath(item.path, listing.root))
                stem = PurePosixPath(relative).with_suffix("").as_posix()
                name = stem.rpartition("/")[2]
                # COCO's image 9 is the file 000000000009.jpg.
                for known in {stem, name, str(int(name)) if name.isdecimal() else name}:
                    self._stems.setdefault(known, []).append(place)
        self._paths = [item.path for item in listing]

    def find(self, name: str) -> int | ImageError | None:
        """Return the place of an image in the listing, why there is none, or None for one that is not to be used."""
        if self._by == "key":
            return self._keys[name]
        if self._by == "stem":
            return self._by_stem(name)
        outside = False
        for written in dict.fromkeys((name, name.replace("\\", "/"))):  # as Windows writes paths
            for folder in self._folders:
                path = _below(folder, written)
                if path is None:
                    continue
                place = self._places.get(path)
                leads_to = path_under(self._root, path)
                if leads_to is None:
                    outside = outside or folder == self._root
                    self.refused.update([] if place is None else [place])
                elif place is not None:
                    return place
                elif os.path.isfile(leads_to):
                    return None
        if (place := self._from_above(name)) is not None:
            return place
        if outside:
            return ImageError("E_OUTSIDE", "the path leads out of the folder of the images")
        return ImageError("E_NOT_FOUND", "there is no such file in the folder of the images")

    def _from_above(self, name: str) -> int | None:
        """Return the place of a listed image whose path is written from a folder above the root."""
        for folder in self._above:
            path = _below(folder, name.replace("\\", "/"))
            place = None if path is None else self._places.get(path)
            if path is not None and place is not None and path_under(self._root, path) is not None:
                return place
        return None

    def _by_stem(self, name: str) -> int | ImageError | None:
        places = self._stems.get(name, [])
        if len(places) > 1:
            shown = ", ".join(display_key(self._paths[place]) for place in places[:2])
            return ImageError("E_NOT_FOUND", f"several images may be meant by {name!r}, such as {shown}")
        if not places:
            return ImageError("E_NOT_FOUND", f"no image is called {name!r}")
        if path_under(self._root, self._paths[places[0]]) is None:
            self.refused.add(places[0])
            return ImageError("E_OUTSIDE", "the path leads out of the folder of the images")
        return places[0]


def _below(folder: bytes, name: str) -> bytes | None:
    """Return the path of a name in a folder, without detours; None for a name that no file can have."""
    try:
        return os.path.normpath(os.path.join(folder, os.fsencode(name)))
    except ValueError:  # a surrogate
        return None
