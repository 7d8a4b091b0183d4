"""From the body of a request to image files that the decoding processes can read.

Nothing of a request names a file here: the name that the client gave an image is the key of its row, and no more.
Addresses are not fetched.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import os
import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import IO, Annotated, Any, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from recognizer.boxes.given import GivenBox
from recognizer.boxes.plan import BoxItem
from recognizer.errors import RecognizerError, reason_of
from recognizer.images import ImageItem
from recognizer.serving.service import Upload
from recognizer.serving.settings import ServeSettings

_LONGEST_NAME = 4096  # characters; usual file systems take no longer paths
_MOST_BOXES = 1000
# A body comes as slowly as its client likes and waits on the disk; then JSON is in memory, with its images in base64.
_JSON_AT_ONCE = 4
# Files up to this size are stored between other requests: a thread for it would take longer.
_AT_ONCE_BYTES = 2**18

BoxList = Annotated[list[tuple[float, float, float, float]], Field(max_length=_MOST_BOXES)]


class BadRequest(RecognizerError):
    """A request that cannot be read; the message says why."""


class Options(BaseModel):
    """What a request wants beside the recognition of its images."""

    model_config = ConfigDict(extra="forbid")

    top_k: int | None = Field(
        default=None, ge=1, description="candidates per image; by default as the server's settings"
    )
    rerank: bool = Field(default=False, description="have the multimodal LLM order the candidates")
    boxes: list[BoxList | None] | None = Field(
        default=None,
        description="per image the boxes to recognise in place of it: x_min, y_min, x_max, y_max in pixels of the "
        "displayed image; null: the whole image",
    )


class JsonImage(BaseModel):
    """An image in JSON."""

    model_config = ConfigDict(extra="forbid")

    base64: str = Field(description="the image file, in base64")
    name: str = Field(default="", max_length=_LONGEST_NAME, description="`path` of its row; by default its position")


class JsonRequest(Options):
    """A request in JSON."""

    images: list[JsonImage] = Field(min_length=1)


class RequestFiles:
    """The files of one request; they are gone when it is left.

    A folder for each request would take as long as all else that is done about HTTP, and one of the server would be
    swept away with other old folders of the system.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._paths: list[str] = []

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete them."""
        for path in self._paths:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def new(self) -> IO[bytes]:
        """Open a new file, which has a name of ours."""
        stream = tempfile.NamedTemporaryFile(prefix="recognizer-serve-", delete=False)  # noqa: SIM115  the caller closes
        self._paths.append(stream.name)
        return cast("IO[bytes]", stream)

    def store(self, content: IO[bytes]) -> bytes:
        """Copy a content into a new file, and return its path."""
        with self.new() as stream:
            shutil.copyfileobj(content, stream)
        return os.fsencode(stream.name)


class Reader:
    """Reads requests.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: ServeSettings) -> None:
        """Keep the limits."""
        self._settings = settings
        self._json_turns = asyncio.Semaphore(_JSON_AT_ONCE)

    async def read(
        self, request: Request, files: RequestFiles, *, parameters: Collection[str] = ()
    ) -> tuple[list[Upload], Options]:
        """Store the images of a request.

        Args:
            request: a form with files in the field `images`, or JSON.
            files: those of the request.
            parameters: what the address may hold behind its question mark.

        Raises:
            BadRequest: it cannot be read, or asks for more than the limits allow.
        """
        for name in request.query_params:
            if name not in parameters:
                raise BadRequest(
                    f"{name!r} is not read from the address; send it in the body, as a field beside images ("
                    f"{', '.join(Options.model_fields)})"
                )
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            images, options = await self._read_form(request, files)
        elif kind == "application/json":
            images, options = await self._read_json(request, files)
        else:
            raise BadRequest("send a form (multipart/form-data) with files in the field images, or application/json")
        if (options.top_k or 0) > self._settings.most_top_k:
            raise BadRequest(f"top_k is {options.top_k}; this server gives up to {self._settings.most_top_k}")
        if options.boxes is not None and len(options.boxes) != len(images):
            raise BadRequest(f"boxes has {len(options.boxes)} lists for {len(images)} images; give one per image")
        boxes = options.boxes or [None] * len(images)
        return [_upload(item, own) for item, own in zip(images, boxes, strict=True)], options

    async def _read_form(self, request: Request, files: RequestFiles) -> tuple[list[ImageItem], Options]:
        # One file more than allowed, so that the message below is given, and not the parser's.
        async with request.form(max_files=self._settings.most_images + 1, max_fields=16, max_part_size=2**20) as form:
            uploads = [file for file in form.getlist("images") if isinstance(file, UploadFile)]
            self._require_images(len(uploads), 'files in the field "images"')
            items = []
            for number, upload in enumerate(uploads):
                if (upload.size or 0) > _AT_ONCE_BYTES:
                    path = await asyncio.to_thread(files.store, upload.file)
                else:
                    path = files.store(upload.file)
                items.append(_item(path, number, upload.filename or ""))
            return items, _form_options(form)

    async def _read_json(self, request: Request, files: RequestFiles) -> tuple[list[ImageItem], Options]:
        with files.new() as stream:
            async for part in request.stream():
                stream.write(part)
        async with self._json_turns:
            return await asyncio.to_thread(self._store_json, Path(stream.name), files)

    def _store_json(self, body: Path, files: RequestFiles) -> tuple[list[ImageItem], Options]:
        try:
            content = JsonRequest.model_validate_json(body.read_bytes())
        except ValidationError as error:
            raise BadRequest(f"the JSON is not a request: {_first(error)}") from None
        self._require_images(len(content.images), "images")
        items = []
        for number, image in enumerate(content.images):
            try:
                data = base64.b64decode(image.base64, validate=True)
            except (binascii.Error, ValueError) as error:
                raise BadRequest(f"images[{number}].base64 is not base64: {error}") from None
            items.append(_item(files.store(io.BytesIO(data)), number, image.name))
        return items, content

    def _require_images(self, count: int, what: str) -> None:
        if not 1 <= count <= self._settings.most_images:
            raise BadRequest(f"{count} {what}; send 1 to {self._settings.most_images} per request")


def _item(path: bytes, number: int, name: str) -> ImageItem:
    """Name an image as its client did, or by its position."""
    key = name[:_LONGEST_NAME].encode("utf-8", "replace").replace(b"\0", b"") or b"%d" % number
    return ImageItem(key, path)


def _upload(item: ImageItem, boxes: BoxList | None) -> Upload:
    if boxes is None:
        return Upload(item)
    given = [BoxItem(item.key_bytes, item.path, GivenBox(image=item.key, xyxy=xyxy)) for xyxy in boxes]
    return Upload(item, given or [BoxItem(item.key_bytes, item.path)])


def _form_options(form: FormData) -> Options:
    unknown = sorted(set(form) - {"images", *Options.model_fields})
    if unknown:
        raise BadRequest(f"there is no field {unknown[0]!r}; fields are images, {', '.join(Options.model_fields)}")
    values: dict[str, Any] = {name: form[name] for name in Options.model_fields if name in form}
    boxes = values.pop("boxes", None)
    try:
        options = Options.model_validate(values)
        if boxes is None:
            return options
        parsed = Options.model_validate_json('{"boxes":' + str(boxes) + "}")
    except ValidationError as error:
        raise BadRequest(f"a field is wrong: {_first(error)}") from None
    return options.model_copy(update={"boxes": parsed.boxes})


def _first(error: ValidationError) -> str:
    """Say the first thing that is wrong, without the input, which may be a whole image."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {reason_of(first)}" if place else reason_of(first)
