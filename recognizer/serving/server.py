"""Runs a server: the application with its guards, and the process around it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Collection

import uvicorn
from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from memory import MemoryStoreError
from recognizer import __version__
from recognizer.errors import RecognizerError, reason_of
from recognizer.serving.docs import TAGS
from recognizer.serving.editing import Editor
from recognizer.serving.guards import Guard, error_response
from recognizer.serving.listening import allow_files, patient_protocol
from recognizer.serving.metrics import Counted, Metrics
from recognizer.serving.routes import Parts, routes
from recognizer.serving.service import Busy, Service
from recognizer.serving.settings import ServeSettings

_LOG = logging.getLogger("recognizer.serve")
_DESCRIPTION = "Recognises images against a category memory: `curl -F images=@photo.jpg http://HOST:PORT/v1/recognize`."


def make_app(
    service: Service,
    *,
    settings: ServeSettings,
    metrics: Metrics,
    writable: bool = False,
    token: str | None = None,
    names: Collection[str] = (),
    stopping: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """Return the application; it closes the service when it is shut down.

    Args:
        service: recognises.
        settings: the limits.
        metrics: the counters.
        writable: whether requests may change the memory.
        token: that requests must bear; None: none.
        names: host names under which the server is reached, beside localhost.
        stopping: whether the server was told to stop.
    """
    metrics.watch("recognizer_waiting_images", "Images in work or waiting.", lambda: service.waiting)
    followed = service.followed
    metrics.watch("recognizer_memory_version", "Of the memory that answers.", lambda: followed.current.memory.version)
    metrics.watch("recognizer_memory_taken", "Times a memory was taken.", lambda: followed.current.number)
    metrics.watch(
        "recognizer_memory_stale",
        "1 where the memory on the disk is gone or cannot be used, and an earlier one answers.",
        lambda: followed.problem is not None,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        followed.start()
        yield
        await asyncio.to_thread(service.close)

    app = FastAPIOffline(
        title="Recognizer",
        description=_DESCRIPTION,
        version=__version__,
        openapi_tags=TAGS,
        redoc_url=None,
        lifespan=lifespan,
    )
    editor = Editor(followed) if writable else None
    # `Guard` checks the token; this lets the page of documents send it.
    sent = [Security(HTTPBearer(auto_error=False))] if token is not None else []
    app.include_router(routes(Parts(service, editor, metrics, settings, stopping)), dependencies=sent)
    add_error_handlers(app)
    app.add_middleware(Counted, metrics=metrics)
    app.add_middleware(Guard, token=token, names=names, settings=settings)
    return app


def add_error_handlers(app: FastAPI) -> None:
    """Let an application answer every error in one form, in a sentence and without a traceback."""
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    for kind in (Busy, RecognizerError, MemoryStoreError, ValueError):
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _failed)


async def _gone(_: Request, error: Exception) -> Response:
    return error_response(400, "the client is gone")  # nobody reads it


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.status_code, error.detail, dict(error.headers or {}))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return error_response(400, f"{'.'.join(map(str, first['loc']))}: {reason_of(first)}")


async def _refused(_: Request, error: Exception) -> Response:
    if isinstance(error, Busy):
        return error_response(503, str(error), {"retry-after": "1"})
    return error_response(400, str(error))


async def _failed(_: Request, error: Exception) -> Response:
    _LOG.error("a request failed", exc_info=error)
    return error_response(500, "the server failed at this request; its log says more")


def make_server(app_of: Callable[[Callable[[], bool]], FastAPI], settings: ServeSettings) -> uvicorn.Server:
    """Return what answers requests until the process is told to stop (SIGTERM, Ctrl-C); those in flight are finished.

    Args:
        app_of: makes the application; it is given what says whether the server was told to stop.
        settings: the limits.
    """
    allow_files(settings.connections)
    server: uvicorn.Server | None = None
    config = uvicorn.Config(
        app_of(lambda: server is not None and server.should_exit),
        http=patient_protocol(settings),
        ws="none",
        log_level="critical",  # what fails is logged once, by `_failed`
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(settings.stop_seconds),
    )
    server = uvicorn.Server(config)
    return server


def run_server(server: uvicorn.Server, listening: socket.socket) -> None:
    """Answer until the process is told to stop; then return, so that the caller can tidy up."""
    # uvicorn sends itself the signal again when it is done, which would end the process here.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    signal.signal(signal.SIGTERM, before)
