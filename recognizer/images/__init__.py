"""Image files: which ones a run covers, their pixels as 8-bit RGB, and evidence drawn on them.

Start at `list_images`, `decode_image` and `draw_evidence`; an image that cannot be used raises `ImageError`. This
package must not know about encoders, memories or results.
"""

from recognizer.images.decode import DecodedImage, decode_bytes, decode_image
from recognizer.images.draw import draw_evidence
from recognizer.images.errors import ImageError, ImageInputError, ImageTypeError
from recognizer.images.fit import Fit, FittedImage, Geometry, Interpolation
from recognizer.images.limits import ImageLimits
from recognizer.images.listing import ImageItem, Listing, list_images, require_images
from recognizer.images.pixels import to_rgb8
from recognizer.images.sources import ImageSource, check_sources, load_source, source_items
from recognizer.images.walk import ListingProblem

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
