"""The EXIF orientation of an image."""

from __future__ import annotations

from PIL import ExifTags, Image

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_orientation(image: Image.Image) -> int:
    """Read the EXIF orientation.

    Args:
        image: an opened image. PNG needs to be loaded before, TIFF turns itself when loaded.

    Returns:
        1 to 8; 1 where there is none or it cannot be read, so that a damaged tag does not cost the picture.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  the EXIF parser raises anything on damaged tags
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def swaps_sides(orientation: int) -> bool:
    """Tell whether the displayed image has the stored height as its width."""
    return orientation >= 5


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn stored pixels into displayed pixels; returns `image` itself for orientation 1."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
