"""Who may ask: requests are checked before anything of their body is read.

A server on the loopback can be reached by every web page that the user opens: by a form or a script of a foreign page
(its browser sends `Origin`), and by a page whose name was made to point here (DNS rebinding; its browser sends that
name as `Host`).
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recognizer.serving.settings import ServeSettings

BODY = "recognizer.body"
"""Under this key of its scope a request has its `Body`."""
# A refused body of so many bytes is read, for so long.
_SHORT_BYTES, _SHORT_S = 64 * 1024, 1.0
# Say nothing of the memory: the page itself, and whether the server lives.
_OPEN_TO_ALL = ("/health/", "/page/", "/docs", "/openapi.json", "/static-offline-docs/")


@dataclass(slots=True, eq=False)
class Body:
    """What has come of the body of a request.

    Attributes:
        since: when it was first waited for, in seconds of the event loop; None: not yet.
        read: bytes.
        is_read: whether all of it has come.
    """

    since: float | None = None
    read: int = 0
    is_read: bool = False


class Guard:
    """Refuses foreign hosts, foreign origins and wrong tokens, and bodies that come too slowly.

    Args:
        app: what answers the others.
        token: that requests must bear; None: none.
        names: host names under which the server is reached, beside localhost; addresses in numbers need no name.
        settings: the limits of a body.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, names: Collection[str], settings: ServeSettings) -> None:
        """Keep the rules."""
        self._app = app
        self._token = None if token is None else token.encode()
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, and pass it on or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            scope[BODY] = body = Body()
            await self._app(scope, _limited(receive, self._settings, body), send)
            return
        status, reason = refusal
        headers = {"www-authenticate": "Bearer"} if status == 401 else {}
        await _read_if_short(scope, receive)
        # A longer body was not read; so the connection is of no further use.
        await error_response(status, reason, headers | {"connection": "close"})(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        if scope["type"] != "http":
            return 400, "there is HTTP here, and nothing else"
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return 421, "the Host header names another server; to be reached by that name, it needs --allow-host"
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"{scope['scheme']}://{hosts[0].lower()}":
            return 403, "the request comes from a page of another origin"
        if self._token is not None and scope["path"] != "/" and not scope["path"].startswith(_OPEN_TO_ALL):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
                return 401, "give the token that the server printed: Authorization: Bearer TOKEN"
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.max_body_bytes:
            return 413, _too_long(int(length), self._settings)
        return None

    def _is_own(self, host: str) -> bool:
        name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
        if name.lower().rstrip(".") in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # a page can make its name point here, but not make an address its name


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the one form that all errors have."""
    return JSONResponse({"error": {"status": status, "message": message}}, status, headers)


async def _read_if_short(scope: Scope, receive: Receive) -> None:
    """Read a short body that nobody looks at.

    A connection that is closed while bytes of it wait is reset, and the client can lose the answer over that.
    """
    length = Headers(scope=scope).get("content-length", "")
    if scope["type"] == "http" and length.isdecimal() and 0 < int(length) <= _SHORT_BYTES:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SHORT_S):
                while (await receive()).get("more_body", False):
                    pass


def _limited(receive: Receive, settings: ServeSettings, body: Body) -> Receive:
    """Limit the bytes of a body, and the time from its first part to its last; note what comes of it."""

    async def receive_limited() -> Message:
        if body.is_read:  # what follows is the end of the connection, for which anyone may wait
            return await receive()
        body.since = asyncio.get_running_loop().time() if body.since is None else body.since
        try:
            # `wait_for` would start a task for each part
            async with asyncio.timeout_at(body.since + settings.body_seconds):
                message = await receive()
        except TimeoutError:
            reason = f"the body was not here after {settings.body_seconds:g} seconds"
            raise HTTPException(408, reason, {"connection": "close"}) from None
        body.read += len(message.get("body", b""))
        if body.read > settings.max_body_bytes:
            raise HTTPException(413, _too_long(body.read, settings), {"connection": "close"})
        body.is_read = not message.get("more_body", False)
        return message

    return receive_limited


def _too_long(length: int, settings: ServeSettings) -> str:
    return f"the body has {length} bytes or more; this server reads up to {settings.max_body_bytes}"
