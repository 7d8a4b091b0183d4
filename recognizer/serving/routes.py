"""The addresses of a server and what each of them answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from memory import Category
from memory.errors import UnknownCategory
from recognizer.results.lines import encode_row
from recognizer.results.row import ErrorRow, Row
from recognizer.serving import docs
from recognizer.serving.editing import Editor, NewCategory
from recognizer.serving.guards import BODY
from recognizer.serving.metrics import Metrics
from recognizer.serving.places import Places
from recognizer.serving.service import Service
from recognizer.serving.settings import ServeSettings
from recognizer.serving.uploads import Reader, RequestFiles

NameOrId = Annotated[str, PathParameter(description="name or id of a category")]

PAGE = Path(__file__).parent / "page"
# The page runs no script but its own file, and talks to nobody but its server.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_PAGE_FILES = {"page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes answer with.

    Attributes:
        service: recognises.
        editor: changes the memory; None: requests may not.
        metrics: the counters.
        settings: the limits.
        stopping: whether the server was told to stop.
    """

    service: Service
    editor: Editor | None
    metrics: Metrics
    settings: ServeSettings
    stopping: Callable[[], bool]


def routes(parts: Parts) -> APIRouter:
    """Return the routes of a server."""
    router = APIRouter(responses=docs.ERRORS)
    service, metrics, reader = parts.service, parts.metrics, Reader(parts.settings)
    places = Places(parts.settings.most_uploads)

    @asynccontextmanager
    async def files_of(request: Request) -> AsyncIterator[RequestFiles]:
        """Let a request have files; only so many do at a time."""
        async with places.take(request.scope[BODY]):
            with RequestFiles() as files:
                yield files

    @router.post(
        "/v1/recognize",
        summary="Recognise images",
        tags=["recognition"],
        openapi_extra=docs.RECOGNIZE,
        responses=docs.ROWS,
    )
    async def recognize(request: Request) -> Response:
        """Return a row per image, or per box of it, in order, as `recognizer run` writes them.

        An image that cannot be decoded has a row with the status `error`; the others are recognised all the same.
        """
        async with files_of(request) as files:
            uploads, options = await reader.read(request, files)
            rows = await service.recognize(uploads, top_k=options.top_k, rerank=options.rerank)
        for row in rows:
            metrics.images.labels("error" if isinstance(row, ErrorRow) else row.status).inc()
        return _rows_response(rows)

    @router.get("/v1/categories", summary="List the categories", tags=["memory"])
    async def categories(
        search: Annotated[str, Query(max_length=200, description="part of a name")] = "",
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        """Return the categories of the memory, sorted by name."""
        memory = service.followed.current.memory
        found = await service.in_background(partial(_matching, memory.bare_categories, search.casefold()))
        page = [_category_json(one) for one in found[offset : offset + limit]]
        return {"total": len(found), "offset": offset, "categories": page, "memory": _memory_json(service)}

    if parts.editor is not None:
        _add_editing(router, parts.editor, service, reader, files_of)

    @router.get("/health/live", summary="Whether the process answers", tags=["server"])
    async def live() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/health/ready", summary="Whether requests are taken, and from which memory", tags=["server"])
    async def ready() -> dict[str, Any]:
        """Say which memory answers; `problem` says why it is not the one on the disk, and is null where it is."""
        if parts.stopping():
            raise HTTPException(503, "the server is stopping")
        return {"status": "ready", "memory": _memory_json(service), "problem": service.followed.problem}

    @router.get("/metrics", summary="Counters, for Prometheus", tags=["server"], response_class=PlainTextResponse)
    async def show_metrics() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    @router.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", media_type="text/html", headers=_PAGE_HEADERS)

    @router.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str) -> FileResponse:
        if name not in _PAGE_FILES:
            raise HTTPException(404, "there is no such file")
        return FileResponse(PAGE / name, media_type=_PAGE_FILES[name], headers=_PAGE_HEADERS)

    return router


def _add_editing(
    router: APIRouter,
    editor: Editor,
    service: Service,
    reader: Reader,
    files_of: Callable[[Request], AbstractAsyncContextManager[RequestFiles]],
) -> None:
    """Add the routes that change the memory."""

    @router.post("/v1/categories", summary="Add categories", tags=["memory"], status_code=201)
    async def add_categories(categories: list[NewCategory]) -> dict[str, Any]:
        """Add categories, or further descriptions of some; only new texts are encoded."""
        if not categories:
            raise HTTPException(400, "the list of categories is empty")
        added = await _edit(service, lambda: editor.add([one.category() for one in categories]))
        return {"added": [_category_json(one) for one in added], "memory": _memory_json(service)}

    @router.delete("/v1/categories/{category:path}", summary="Remove a category", tags=["memory"])
    async def remove_category(category: NameOrId) -> dict[str, Any]:
        """Remove a category with its descriptions and exemplars."""
        removed = await _edit(service, lambda: editor.remove(category))
        return {"removed": [_category_json(one) for one in removed], "memory": _memory_json(service)}

    @router.post(
        "/v1/exemplars",
        summary="Add example images of a category",
        tags=["memory"],
        status_code=201,
        openapi_extra=docs.EXEMPLARS,
    )
    async def add_exemplars(
        request: Request, category: Annotated[str, Query(description="name or id")]
    ) -> dict[str, Any]:
        """Add the images of a form or of JSON; their names become their references.

        `problems` has a sentence for each image that was left out, `warnings` one for each that is an example of
        another category, too.
        """
        async with files_of(request) as files:
            uploads, options = await reader.read(request, files, parameters={"category"})
            senseless = sorted(options.model_fields_set - {"images"})
            if senseless:
                raise HTTPException(
                    400, f"examples are whole images, without {senseless[0]}; cut boxes out, and send each as an image"
                )
            items = [upload.item for upload in uploads]
            added = await _edit(service, lambda: editor.add_exemplars(category, items))
        return {**asdict(added), "memory": _memory_json(service)}

    @router.delete("/v1/exemplars", summary="Remove example images", tags=["memory"])
    async def remove_exemplar(
        reference: Annotated[str, Query(description="of an example image, or a category, all of whose images go")],
    ) -> dict[str, Any]:
        """Remove the example images of a reference, in whatever category, or all those of a category."""
        removed = await _edit(service, lambda: editor.remove_exemplar(reference))
        return {"removed": removed, "memory": _memory_json(service)}


async def _edit(service: Service, work: Callable[[], Any]) -> Any:  # noqa: ANN401  whatever `work` returns
    """Change the memory in the background; what it does not know is not found."""
    try:
        return await service.in_background(work)
    except UnknownCategory as error:
        raise HTTPException(404, str(error)) from None


def _matching(bare_categories: Callable[[], Sequence[Category]], part: str) -> list[Category]:
    found = [category for category in bare_categories() if part in category.name.casefold()]
    return sorted(found, key=lambda category: (category.name, category.group))


def _rows_response(rows: Sequence[Row]) -> Response:
    # Each row in the bytes of a results file.
    content = b'{"rows":[' + b",".join(encode_row(row).rstrip(b"\n") for row in rows) + b"]}"
    return Response(content, media_type="application/json")


def _category_json(category: Category) -> dict[str, Any]:
    return {"id": category.id, "name": category.name, **({"group": category.group} if category.group else {})}


def _memory_json(service: Service) -> dict[str, Any]:
    memory = service.followed.current.memory
    return {"version": memory.version, "digest": memory.digest, "categories": memory.info().categories}
