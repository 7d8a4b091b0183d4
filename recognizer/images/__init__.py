"""Image files: which ones a run covers, their pixels as 8-bit RGB, and evidence drawn on them.

Start at `list_images`, `decode_image` and `draw_evidence`; an image that cannot be used raises `ImageError`. This
package must not know about encoders, memories or results. Names are imported when they are first used, so that a
command that needs the limits alone loads no Pillow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.lazy import lazy_names

if TYPE_CHECKING:
    from recognizer.images.decode import DecodedImage as DecodedImage
    from recognizer.images.decode import decode_bytes as decode_bytes
    from recognizer.images.decode import decode_image as decode_image
    from recognizer.images.draw import draw_evidence as draw_evidence
    from recognizer.images.errors import ImageError as ImageError
    from recognizer.images.errors import ImageInputError as ImageInputError
    from recognizer.images.errors import ImageTypeError as ImageTypeError
    from recognizer.images.fit import Fit as Fit
    from recognizer.images.fit import FittedImage as FittedImage
    from recognizer.images.fit import Geometry as Geometry
    from recognizer.images.fit import Interpolation as Interpolation
    from recognizer.images.limits import ImageLimits as ImageLimits
    from recognizer.images.listing import ImageItem as ImageItem
    from recognizer.images.listing import Listing as Listing
    from recognizer.images.listing import list_images as list_images
    from recognizer.images.listing import require_images as require_images
    from recognizer.images.pixels import to_rgb8 as to_rgb8
    from recognizer.images.sources import ImageSource as ImageSource
    from recognizer.images.sources import check_sources as check_sources
    from recognizer.images.sources import load_source as load_source
    from recognizer.images.sources import source_items as source_items
    from recognizer.images.walk import ListingProblem as ListingProblem

__getattr__ = lazy_names(
    __name__,
    {
        "DecodedImage": "recognizer.images.decode",
        "Fit": "recognizer.images.fit",
        "FittedImage": "recognizer.images.fit",
        "Geometry": "recognizer.images.fit",
        "ImageError": "recognizer.images.errors",
        "ImageInputError": "recognizer.images.errors",
        "ImageItem": "recognizer.images.listing",
        "ImageLimits": "recognizer.images.limits",
        "ImageSource": "recognizer.images.sources",
        "ImageTypeError": "recognizer.images.errors",
        "Interpolation": "recognizer.images.fit",
        "Listing": "recognizer.images.listing",
        "ListingProblem": "recognizer.images.walk",
        "check_sources": "recognizer.images.sources",
        "decode_bytes": "recognizer.images.decode",
        "decode_image": "recognizer.images.decode",
        "draw_evidence": "recognizer.images.draw",
        "list_images": "recognizer.images.listing",
        "load_source": "recognizer.images.sources",
        "require_images": "recognizer.images.listing",
        "source_items": "recognizer.images.sources",
        "to_rgb8": "recognizer.images.pixels",
    },
)
__all__ = [
    "DecodedImage",
    "Fit",
    "FittedImage",
    "Geometry",
    "ImageError",
    "ImageInputError",
    "ImageItem",
    "ImageLimits",
    "ImageSource",
    "ImageTypeError",
    "Interpolation",
    "Listing",
    "ListingProblem",
    "check_sources",
    "decode_bytes",
    "decode_image",
    "draw_evidence",
    "list_images",
    "load_source",
    "require_images",
    "source_items",
    "to_rgb8",
]
