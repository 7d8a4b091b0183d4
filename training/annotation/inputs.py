"""Images to annotate, with the captions, subjects and descriptions that come with them.

Captions lie in text files beside the images, in the columns of a table, or in a manifest. A subject is the name of what
an image mainly shows: of a table, a manifest, the image's folder or its file.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from memory import read_labels
from memory.errors import LabelError, printable_path
from memory.labels.cells import delimiter_by_count, delimiter_by_titles, read_titles, split_rows, without_empty_end
from memory.labels.rows import LabelFile, read_text
from memory.labels.text import HEADER_WORDS
from memory.templates import prompt_name
from recognizer.evaluation.labelled import PATH_TITLES
from recognizer.images import ImageItem, Listing, list_images, require_images
from training.annotation.words import as_unicode
from training.data.manifest import parse_line
from training.data.record import BadSample
from training.errors import DataError

Subjects = Literal["given", "folder", "file"]
_CAPTION_TITLES = frozenset(["caption", "captions", "text", "sentence", "alt"])
_SUBJECT_TITLES = HEADER_WORDS | {"subject"}
_VARIANT = re.compile(r"[\s_-]*\(?\d+\)?$")  # of file names: lion_2, lion (3)
_MOST_CAPTION_BYTES = 100_000  # of a text file beside an image; a caption has some hundred


@dataclass(frozen=True, slots=True)
class BareImage:
    """An image to annotate.

    Attributes:
        item: the image.
        captions: that came with it.
        subject: what it mainly shows; None: not known.
        descriptions: of its subject, that came with it.
        regions: described boxes that came with it, as a manifest has them.
    """

    item: ImageItem
    captions: tuple[str, ...] = ()
    subject: str | None = None
    descriptions: tuple[str, ...] = ()
    regions: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class BareImages(Sequence[BareImage]):
    """Images to annotate, in order, with keys that differ.

    Attributes:
        images: of a table or manifest, or the listing of a folder, whose captions are read when one is asked for.
        subjects: where subjects come from: `given` with the image, its `folder`, or its `file`.
        left_out: rows of a table or manifest that name no image, by reason; files of folders, in lines.
        notes: sentences for the user.
    """

    images: Sequence[BareImage] | Listing
    subjects: Subjects = "given"
    left_out: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401  as of any sequence
        """Return an image, or the list of a slice."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        found = self.images[index]
        image = BareImage(found, _beside(found)) if isinstance(found, ImageItem) else found
        return replace(image, subject=image.subject or _name_of(image.item, self.subjects))


def read_images(inputs: Sequence[str], *, subjects: Subjects = "given", exclude: Sequence[str] = ()) -> BareImages:
    """Read what is to be annotated.

    Args:
        inputs: a table (`.csv`, `.tsv`) with a column of paths and any of captions and subjects; a manifest (`.jsonl`)
            with `image` and any of `captions`, `subject`, `descriptions` and `regions`; or what `list_images` reads,
            where the first line of `a.txt` is the caption of `a.jpg`.
        subjects: where the subject of an image comes from that has none of its own.
        exclude: globs of files and folders to leave out.

    Raises:
        DataError: a table or manifest cannot be read, or has no images.
        ImageInputError: an input cannot be listed, or there are no images.
    """
    single = Path(inputs[0]) if len(inputs) == 1 else None
    if single is not None and single.suffix.lower() in (".csv", ".tsv"):
        return replace(_read_table(single), subjects=subjects)
    if single is not None and single.suffix.lower() == ".jsonl":
        return replace(_read_manifest(single), subjects=subjects)
    listing = list_images(inputs, exclude=exclude)
    require_images(listing, inputs)
    return BareImages(listing, subjects, notes=listing.left_out)


def read_descriptions(path: Path) -> dict[str, tuple[str, ...]]:
    """Read the descriptions of subjects from `{name: [descriptions]}` or any other label file that has descriptions.

    Returns:
        The descriptions by name and by alias, as `subject_key` writes them.

    Raises:
        DataError: it cannot be read, or has no descriptions.
    """
    try:
        categories = read_labels(path)
    except LabelError as error:
        raise DataError(str(error)) from error
    found: dict[str, tuple[str, ...]] = {}
    for category in categories:
        texts = tuple(description.text for description in category.descriptions)
        for name in (category.name, *category.aliases) if texts else ():
            found[subject_key(name)] = (*found.get(subject_key(name), ()), *texts)
    if not found:
        raise DataError(f"{printable_path(path)} has names and no descriptions; `recognizer describe` writes some")
    return found


def subject_key(subject: str) -> str:
    """Return the form in which equal subjects are equal: words in lower case, single spaces."""
    return " ".join(prompt_name(subject).casefold().split())


def _name_of(item: ImageItem, subjects: Subjects) -> str | None:
    if subjects == "given":
        return None
    folder, _, file = item.key.rpartition("/")
    if subjects == "folder":
        name = folder.rpartition("/")[2]
    else:
        stem = file.rpartition(".")[0] or file
        name = (_VARIANT.sub("", stem) or stem).replace("-", " ")
    return prompt_name(name).strip() or None


def _beside(item: ImageItem) -> tuple[str, ...]:
    """Read the caption from the text file of the image's name: its first line that is not blank."""
    path = os.path.splitext(item.path)[0] + b".txt"
    try:
        with open(path, "rb") as stream:
            lines = stream.read(_MOST_CAPTION_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    return next(((line.strip(),) for line in lines if line.strip()), ())


def _read_table(path: Path) -> BareImages:
    """Read a table; rows of one path are one image with several captions."""
    shown = printable_path(path)
    try:
        file = LabelFile(path, read_text(path))
    except LabelError as error:
        raise DataError(str(error)) from error
    delimiter = delimiter_by_titles(file, PATH_TITLES) or delimiter_by_count(file)
    lines = split_rows(file, delimiter)
    header = next(lines, (1, list[str]()))[1]
    titles = [] if isinstance(header, csv.Error) else [title.lower() for title in read_titles(header)]
    paths, captions, subjects = (
        [place for place, title in enumerate(titles) if title in wanted]
        for wanted in (PATH_TITLES, _CAPTION_TITLES, _SUBJECT_TITLES)
    )
    if len(paths) != 1 or len(subjects) > 1:
        raise DataError(
            f"{shown} needs a header with one column path, and at most one of subject or label; captions may stand in "
            f"a column caption; it has: {', '.join(titles) or 'none'}"
        )
    left_out: Counter[str] = Counter()
    images: dict[bytes, BareImage] = {}
    for _, row in lines:
        if isinstance(row, csv.Error):
            left_out["row that cannot be read"] += 1
            continue
        cells = [cell.strip() for cell in without_empty_end(row, titles)]
        cells += [""] * (len(titles) - len(cells))
        if len(cells) > len(titles) or not cells[paths[0]] or "\0" in cells[paths[0]]:
            left_out["row without a path, or with other columns"] += 1
            continue
        texts = tuple(cells[place] for place in captions if cells[place])
        subject = cells[subjects[0]] if subjects else ""
        item = _item(path.parent, cells[paths[0]])
        earlier = images.get(item.key_bytes, BareImage(item))
        images[item.key_bytes] = replace(
            earlier,
            captions=tuple(dict.fromkeys((*earlier.captions, *texts))),
            subject=earlier.subject or prompt_name(subject).strip() or None,
        )
    return _some(images, left_out, shown)


def _read_manifest(path: Path) -> BareImages:
    left_out: Counter[str] = Counter()
    images: dict[bytes, BareImage] = {}
    try:
        with open(path, "rb") as stream:
            for line in stream:
                if line.isspace():
                    continue
                try:
                    image = _from_fields(path.parent, parse_line(line))
                except BadSample as fault:
                    left_out[fault.reason] += 1
                    continue
                if image.item.key_bytes in images:
                    left_out["image that is named twice"] += 1
                images.setdefault(image.item.key_bytes, image)
    except OSError as error:
        raise DataError(f"{printable_path(path)}: the manifest cannot be read: {error.strerror}") from error
    return _some(images, left_out, printable_path(path))


def _from_fields(folder: Path, fields: Mapping[str, Any]) -> BareImage:
    name = fields.get("image")
    if not isinstance(name, str) or not name or "\0" in name:
        raise BadSample("no image path")
    subject = fields.get("subject")
    regions = fields.get("regions")
    return BareImage(
        _item(folder, name),
        (*_texts(fields.get("captions")), *_texts(fields.get("caption"))),
        as_unicode(subject).strip() or None if isinstance(subject, str) else None,
        _texts(fields.get("descriptions")),
        tuple(regions) if isinstance(regions, list) else (),
    )


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    texts = [as_unicode(each).strip() for each in values if isinstance(each, str)]
    return tuple(text for text in texts if text)


def _item(folder: Path, name: str) -> ImageItem:
    try:
        key = os.fsencode(name)
    except UnicodeEncodeError:
        raise BadSample("path that is not Unicode text") from None
    return ImageItem(key, os.path.join(os.path.abspath(os.fsencode(folder)), key))


def _some(images: Mapping[bytes, BareImage], left_out: Counter[str], shown: str) -> BareImages:
    if not images:
        reasons = "".join(f"; {reason}: {count}" for reason, count in left_out.items())
        raise DataError(f"{shown} names no images{reasons}")
    return BareImages(list(images.values()), left_out=left_out)
