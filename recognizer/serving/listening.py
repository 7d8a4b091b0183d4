"""Where a server listens, and which connections it bears."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import resource
import secrets
import socket

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from recognizer.errors import RecognizerError
from recognizer.serving.settings import ServeSettings

# Connections that the system accepts for the server before it looks; it then takes all of them at once.
_BACKLOG = 2048
# Descriptors for the memory, the models and the files of requests, and for connections that are about to be closed.
_SPARE_FILES = 256 + _BACKLOG
# From a connection too many to the end of one: what many new connections have sent with their beginning is read first.
_READ_FIRST_S = 0.1
_TOKEN_BYTES = 32


class ServerUnavailable(RecognizerError):
    """The server cannot listen where it is to; the message says why."""


def needs_token(host: str) -> bool:
    """Say whether others than the users of this machine can reach a server that listens there."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() != "localhost"


def is_everywhere(host: str) -> bool:
    """Say whether a server that listens there does so on all interfaces of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def address(host: str, port: int) -> str:
    """Return the address of a server for people; on this machine where it listens on all interfaces."""
    if is_everywhere(host):  # 0.0.0.0 is an address to listen on, which not every system can open
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """Open the socket of a server.

    Raises:
        ServerUnavailable: the address is not this machine's, or somebody else listens there.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServerUnavailable(f"cannot listen on {host}:{port}: {reason}; choose another --port or --host") from error


def allow_files(connections: int) -> None:
    """Let this process have as many files open as its connections need, as far as the system permits."""
    count = connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def patient_protocol(settings: ServeSettings) -> type[H11Protocol]:
    """Return uvicorn's protocol with two limits that it lacks: on connections, and on the time for a header.

    Where there are too many connections, the one that has waited longest without a whole header is closed, or the
    newest one if none waits. So idle connections keep nobody out.
    """
    waiting: dict[PatientProtocol, asyncio.TimerHandle] = {}  # the longest first
    in_order: dict[PatientProtocol, None] = {}  # the newest last

    class PatientProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_header()
            in_order[self] = None
            if len(in_order) > settings.connections:
                self.loop.call_later(_READ_FIRST_S, self._close_one)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self._await_header()
            else:
                self._wait_no_longer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._leave()
            super().connection_lost(exc)

        def give_up(self) -> None:
            self._leave()
            self.transport.abort()

        def _close_one(self) -> None:
            if len(in_order) > settings.connections:
                next(iter(waiting), next(reversed(in_order))).give_up()

        def _leave(self) -> None:
            self._wait_no_longer()
            in_order.pop(self, None)

        def _await_header(self) -> None:
            if self not in waiting:
                waiting[self] = self.loop.call_later(settings.header_seconds, self.give_up)

        def _wait_no_longer(self) -> None:
            if self in waiting:
                waiting.pop(self).cancel()

    return PatientProtocol
