"""Images from disk: which files there are, their pixels as RGB, and evidence drawn on them."""

from recognizer.images.decode import DecodedImage, decode_bytes, decode_image
from recognizer.images.draw import draw_evidence
from recognizer.images.errors import ImageError, ImageInputError
from recognizer.images.limits import ImageLimits
from recognizer.images.listing import ImageItem, Listing, ListingProblem, list_images
from recognizer.images.pixels import to_rgb8

__all__ = [
    "DecodedImage",
    "ImageError",
    "ImageInputError",
    "ImageItem",
    "ImageLimits",
    "Listing",
    "ListingProblem",
    "decode_bytes",
    "decode_image",
    "draw_evidence",
    "list_images",
    "to_rgb8",
]
