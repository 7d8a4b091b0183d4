"""Images as `data:` URLs, so that a server never sees a path or an address."""

from __future__ import annotations

import asyncio
import base64
import io
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def data_url(image: Image, jpeg_quality: int | None) -> str:
    """Encode an image.

    Args:
        image: any mode; sent as RGB.
        jpeg_quality: 1 to 100; None for PNG, which loses nothing and is several times larger.

    Raises:
        OSError, ValueError: the image cannot be encoded.
    """
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    buffer = io.BytesIO()
    if jpeg_quality is None:
        rgb.save(buffer, "PNG")
    else:
        # No chroma subsampling at high quality: small coloured details tell fine-grained categories apart.
        rgb.save(buffer, "JPEG", quality=jpeg_quality, subsampling=0 if jpeg_quality >= 90 else 2)
    kind = "png" if jpeg_quality is None else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


class SharedImages:
    """Encodes each image of one call once, when it is first needed, and drops it after its last request."""

    def __init__(self, images: Iterable[Image], jpeg_quality: int | None) -> None:
        """Count the requests of each image.

        Args:
            images: one per request; an object that occurs several times is encoded once.
            jpeg_quality: as `data_url` takes it.
        """
        self._left = Counter(id(image) for image in images)
        self._encoded: dict[int, asyncio.Task[str]] = {}
        self._jpeg_quality = jpeg_quality

    async def take(self, image: Image) -> str:
        """Return the image's `data:` URL; to be called once per request, on one event loop.

        Raises:
            OSError, ValueError: the image cannot be encoded.
        """
        key = id(image)
        if key not in self._encoded:
            # On a worker thread: a large image takes milliseconds in which the loop could not serve its connections.
            self._encoded[key] = asyncio.create_task(asyncio.to_thread(data_url, image, self._jpeg_quality))
        task = self._encoded[key]
        self._left[key] -= 1
        if self._left[key] == 0:
            del self._encoded[key]
        # Shielded: when one request is cancelled the others still need the image.
        return await asyncio.shield(task)
