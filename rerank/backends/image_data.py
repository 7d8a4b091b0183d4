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

# An image whose longer side is below twice this many pixels is not made smaller: less shows no detail.
SMALLEST_SIDE = 112


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


def halved(image: Image) -> Image | None:
    """Return the image at half its size; None where it is small already."""
    if max(image.size) < 2 * SMALLEST_SIDE:
        return None
    return image.resize((max(image.width // 2, 1), max(image.height // 2, 1)))


class SharedImages:
    """Encodes each image of one call once, when it is first needed, and drops it after its last request.

    A request whose prompt is too long shrinks its image; the later requests about that image then get the small one.
    """

    def __init__(self, images: Iterable[Image], jpeg_quality: int | None) -> None:
        """Count the requests of each image.

        Args:
            images: one per request; an object that occurs several times is encoded once.
            jpeg_quality: as `data_url` takes it.
        """
        self._left = Counter(id(image) for image in images)
        self._encoded: dict[tuple[int, int], asyncio.Task[str]] = {}
        self._smaller: dict[int, list[Image]] = {}
        self._jpeg_quality = jpeg_quality

    def size(self, image: Image) -> int:
        """Return how often the image was halved."""
        return len(self._smaller.get(id(image), ()))

    def shrink(self, image: Image, size: int) -> bool:
        """Halve an image that was sent at this size, unless another request has done so; False if it is too small."""
        smaller = self._smaller.setdefault(id(image), [])
        if len(smaller) == size:
            half = halved(smaller[-1] if smaller else image)
            if half is None:
                return False
            smaller.append(half)
        return True

    async def url(self, image: Image) -> str:
        """Return the image's `data:` URL at its present size; for one event loop.

        Raises:
            OSError, ValueError: the image cannot be encoded.
        """
        smaller = self._smaller.get(id(image), [])
        key = id(image), len(smaller)
        if key not in self._encoded:
            # On a worker thread: a large image takes milliseconds in which the loop could not serve its connections.
            present = smaller[-1] if smaller else image
            self._encoded[key] = asyncio.create_task(asyncio.to_thread(data_url, present, self._jpeg_quality))
        # Shielded: when one request is cancelled the others still need the image.
        return await asyncio.shield(self._encoded[key])

    def done(self, image: Image) -> None:
        """Say that one of the image's requests has ended; the last one drops what was encoded for it."""
        self._left[id(image)] -= 1
        if self._left[id(image)] == 0:
            self._smaller.pop(id(image), None)
            for key in [key for key in self._encoded if key[0] == id(image)]:
                del self._encoded[key]
