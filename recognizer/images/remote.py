"""Images in object stores: ``s3://BUCKET/KEY``, ``gs://BUCKET/KEY`` and ``az://CONTAINER/KEY``.

Credentials, regions and endpoints come from the environment variables of each store, such as AWS_ACCESS_KEY_ID. The
library is obstore, whose Rust core LanceDB uses too, so one environment serves images and memories.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any

from recognizer.images.errors import ImageError

SCHEMES = ("s3", "gs", "az")
# Paths of files cannot begin like this: those of a listing have no two slashes in a row.
_ADDRESS = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/]+)/(.+)", re.DOTALL)
# A store that is dead costs each image so much; one that asks for patience gets it.
_RETRIES = 3
_PATIENCE = timedelta(seconds=15)
_CONNECT = timedelta(seconds=5)
_WHOLE_REQUEST = timedelta(seconds=60)
_LONGEST_REASON = 200
_PREFIXES = ("AWS", "GOOGLE", "AZURE")  # of environment variables


def is_remote(path: bytes) -> bool:
    """Tell an address from the path of a file."""
    return _ADDRESS.match(path) is not None


def fetch(address: bytes, *, max_bytes: int) -> bytes:
    """Read an object whole.

    Args:
        address: as above.
        max_bytes: an object of more bytes is refused without being read.

    Returns:
        The content, at least one byte.

    Raises:
        ImageError: E_NOT_FOUND, E_PERMISSION, E_READ, E_EMPTY or E_TOO_LARGE; the reason names the store.
    """
    with _image_errors(address):
        store, key = _opened(address)
        found = store.get(key)
        size = int(found.meta["size"])
        if size > max_bytes:
            raise ImageError("E_TOO_LARGE", f"{size} bytes; images.max_file_bytes is {max_bytes}")
        data = bytes(found.bytes())
    if not data:
        raise ImageError("E_EMPTY", "the file has no bytes")
    return data


def head(address: bytes) -> tuple[int, int] | None:
    """Return size in bytes and time of the last change in nanoseconds of an object; None where it cannot be read."""
    try:
        with _image_errors(address):
            store, key = _opened(address)
            meta = store.head(key)
            return int(meta["size"]), int(meta["last_modified"].timestamp() * 1e9)
    except ImageError:
        return None


@contextmanager
def local_copy(address: bytes, *, max_bytes: int) -> Iterator[bytes]:
    """Yield the path of a file with the content of an object; it is deleted afterwards.

    Raises:
        ImageError: as `fetch`.
    """
    data = fetch(address, max_bytes=max_bytes)
    with tempfile.NamedTemporaryFile(prefix="recognizer-") as stream:
        stream.write(data)
        stream.flush()
        yield os.fsencode(stream.name)


def _opened(address: bytes) -> tuple[Any, str]:
    """Return the store of an address, and the key in it."""
    match = _ADDRESS.match(address)
    scheme, bucket, key = (part.decode() for part in match.groups()) if match else ("", "", "")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ImageError("E_READ", f"addresses that begin with {scheme}:// are not read; use {known} or a path")
    return _store(f"{scheme}://{bucket}"), key


@lru_cache(maxsize=64)
def _store(bucket: str) -> Any:  # noqa: ANN401  a class for each kind of store
    try:
        from obstore.store import from_url
    except ImportError:
        raise ImageError("E_READ", f'reading {bucket} needs obstore: pip install "recognizer[objects]"') from None
    # Options of the client replace all that obstore reads about it from the environment.
    allow_http = any(os.environ.get(f"{name}_ALLOW_HTTP", "").lower() in ("1", "true") for name in _PREFIXES)
    return from_url(
        bucket,
        client_options={"connect_timeout": _CONNECT, "timeout": _WHOLE_REQUEST, "allow_http": allow_http},
        retry_config={"max_retries": _RETRIES, "retry_timeout": _PATIENCE},
    )


@contextmanager
def _image_errors(address: bytes) -> Iterator[None]:
    """Turn what a store raises into an `ImageError`."""
    from memory.store import is_panic

    store = b"/".join(address.split(b"/")[:3]).decode("utf-8", "replace")
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError("E_NOT_FOUND", f"{store} has no such object") from None
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        kind = type(error).__name__
        if kind in ("PermissionDeniedError", "UnauthenticatedError"):
            raise ImageError(
                "E_PERMISSION", f"{store} refuses access with the credentials of the environment"
            ) from None
        reason = " ".join(str(error).partition("Debug source")[0].split())[:_LONGEST_REASON] or kind
        raise ImageError("E_READ", f"{store} cannot be read: {reason}") from None
