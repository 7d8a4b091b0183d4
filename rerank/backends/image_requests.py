"""Requests to one model of a server: how many at a time, how their images are sent, and how requests fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from rerank.backends.event_loop import EventLoopThread
from rerank.backends.failures import FailedRequest, UnreadableError, first_sentence
from rerank.backends.image_data import SharedImages
from rerank.backends.server_client import ServerClient
from rerank.mllm import Failure

if TYPE_CHECKING:
    from PIL.Image import Image


class _HasImage(Protocol):
    @property
    def image(self) -> Image | None: ...


Request = TypeVar("Request", bound=_HasImage)
Answer = TypeVar("Answer")


class ImageRequests:
    """Sends requests of any thread to one model; all share the limit of requests in flight.

    A request that fails becomes a `Failure`: `timeout`; `unreachable` (no connection, a broken one, or 408, 409, 429,
    5xx after all retries); `refused` (other codes; 401, 403 and 404 are hopeless, and nothing is sent after them);
    `unreadable: REASON`. One that is refused because its prompt is too long is sent again with a smaller image.

    Attributes:
        client: that sends.
        model: its name at the server.
        name: model and address.
        identity: address, model and how images are encoded.
        parallel: requests in flight, at most.
    """

    def __init__(
        self,
        client: ServerClient,
        *,
        model: str | None = None,
        revision: str | None = None,
        concurrency: int = 16,
        jpeg_quality: int | None = 95,
    ) -> None:
        """Start the thread that sends. The server is asked only if no model is named.

        Args:
            client: of the server; closed with this object.
            model: its name at the server; None for the first one that the server lists.
            revision: of the model, as you know it; part of `identity`.
            concurrency: requests in flight, at most.
            jpeg_quality: 1 to 100; None for PNG.

        Raises:
            MllmUnavailable: no model could be found.
            ValueError: a number is out of its range.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency {concurrency} must be positive")
        if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality {jpeg_quality} must be 1 to 100, or None for PNG")
        self.client = client
        self.parallel = concurrency
        self._jpeg_quality = jpeg_quality
        self._slots = asyncio.Semaphore(concurrency)
        self._said_too_long = False
        self._loop = EventLoopThread("server-requests")
        try:
            self.model = model or self._loop.run(client.first_model())
        except BaseException:
            self.close()
            raise
        self.name = f"{self.model} at {client.base_url}"
        quality = "png" if jpeg_quality is None else f"jpeg {jpeg_quality}"
        self.identity = f"{client.base_url} {self.model}{f'@{revision}' if revision else ''} {quality}"

    def send_all(
        self, requests: Sequence[Request], send: Callable[[Request, str], Awaitable[Answer]]
    ) -> list[Answer | Failure]:
        """Send requests and wait for all answers.

        Args:
            requests: each with an `image` or None; one object in several requests is encoded once.
            send: sends one request with the `data:` URL of its image, empty for none; may raise FailedRequest and
                UnreadableError.
        """

        async def wait_for_all() -> list[Answer | Failure]:
            images = SharedImages(
                (request.image for request in requests if request.image is not None), self._jpeg_quality
            )
            return await asyncio.gather(*(self._send(request, images, send) for request in requests))

        return self._loop.run(wait_for_all())

    def failure(self, error: FailedRequest | UnreadableError) -> Failure:
        """Describe an error for the rows and for the user."""
        if isinstance(error, UnreadableError):
            return Failure(f"unreadable: {error}")
        return Failure(error.status, error.hopeless, self.client.hint(error), error.code)

    def close(self) -> None:
        """Cancel the requests in flight (their callers get a RuntimeError), close connections, end the thread."""
        self._loop.close(self.client.close)

    async def _send(
        self, request: Request, images: SharedImages, send: Callable[[Request, str], Awaitable[Answer]]
    ) -> Answer | Failure:
        image = request.image
        try:
            while True:
                size = 0 if image is None else images.size(image)
                # Before it takes a slot, so that no slot waits for it.
                url = "" if image is None else await _encoded(image, images)
                try:
                    async with self._slots:
                        return await send(request, url)
                except FailedRequest as failed:
                    if not failed.too_long or image is None or not images.shrink(image, size):
                        raise
                    self._say_too_long(failed)
        except (FailedRequest, UnreadableError) as error:
            return self.failure(error)
        finally:
            if image is not None:
                images.done(image)

    def _say_too_long(self, failed: FailedRequest) -> None:
        if not self._said_too_long:
            self._said_too_long = True
            self.client.warn(
                f'{self.name} takes no prompt this long ("{first_sentence(failed.message) or f"HTTP {failed.code}"}"); '
                "such images are sent again at half the size; rerank.image_size and rerank.descriptions make prompts "
                "shorter"
            )


async def _encoded(image: Image, images: SharedImages) -> str:
    try:
        return await images.url(image)
    except (OSError, ValueError):
        raise UnreadableError("the image cannot be encoded") from None
