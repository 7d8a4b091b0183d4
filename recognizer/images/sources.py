"""Images as callers of the Python interface give them: paths, the bytes of files, or images that Pillow holds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from recognizer.images.decode import DecodedImage, decode_bytes, decode_image, turn_upright
from recognizer.images.errors import ImageTypeError
from recognizer.images.limits import ImageLimits
from recognizer.images.listing import ImageItem

ImageSource = str | Path | bytes | Image.Image
"""The path of a file, the bytes of a file, or an image."""


def check_sources(images: Iterable[ImageSource]) -> list[ImageSource]:
    """Return the images as a list.

    Raises:
        ImageTypeError: this is one image instead of several, or one of them is of another type.
    """
    if isinstance(images, ImageSource) or not isinstance(images, Iterable):
        raise ImageTypeError(f"images is one {_type_name(images)}; give a list, such as [image]")
    sources = list(images)
    for position, source in enumerate(sources):
        if not isinstance(source, ImageSource):
            remedy = "; PIL.Image.fromarray makes an image of an array" if hasattr(source, "__array__") else ""
            raise ImageTypeError(
                f"images[{position}] is of type {_type_name(source)}; give a path, the bytes of an image file or a "
                f"PIL image{remedy}"
            )
    return sources


def load_source(
    source: ImageSource, *, limits: ImageLimits | None = None, target_size_hw: tuple[int, int] | None = None
) -> DecodedImage:
    """Decode an image, or take the one that is decoded already, and turn it as its EXIF says.

    Args:
        source: the image.
        limits: of a file and its pixels; None: the defaults.
        target_size_hw: as for `decode_bytes`; an image that is decoded already keeps its size.

    Raises:
        ImageError: the image cannot be used.
    """
    if isinstance(source, Image.Image):
        return turn_upright(source)
    if isinstance(source, bytes):
        return decode_bytes(source, limits=limits, target_size_hw=target_size_hw)
    return decode_image(source, limits=limits, target_size_hw=target_size_hw)


def source_items(sources: Sequence[ImageSource], keys: Sequence[str] | None = None) -> list[ImageItem]:
    """Name the images as a run over the same files would.

    Args:
        sources: the images.
        keys: the name of each; None: a file has its path relative to the deepest folder that holds all the files,
            another image its position.
    """
    if keys is not None:
        return [ImageItem(os.fsencode(key), os.fsencode(key)) for key in keys]
    paths = [os.path.abspath(os.fsencode(source)) if isinstance(source, (str, Path)) else None for source in sources]
    folders = [os.path.dirname(path) for path in paths if path is not None]
    root = os.path.commonpath(folders) if folders else b""
    return [
        ImageItem(b"%d" % position, b"")
        if path is None
        else ImageItem(os.path.relpath(path, root).replace(os.fsencode(os.sep), b"/"), path)
        for position, path in enumerate(paths)
    ]


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
