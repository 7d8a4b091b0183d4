"""Reading and writing objects below one address, with bounded waits, and failures told in sentences.

Credentials and servers come from the environment alone. Messages are composed here: what a store answers may repeat
a key or a signature, so nothing of it is shown but a status and a code of a known form.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from memory.errors import ObjectStoreError
from memory.remote.address import Address

if TYPE_CHECKING:
    from obstore import PutResult

Client: TypeAlias = Any
"""A store of obstore, which is imported at its first use."""

ATTEMPTS: Final = 4
"""How often a request is sent that fails for a reason that may pass."""
REQUEST_SECONDS: Final = 30
"""Within which a request has to be answered, body included."""
CONNECT_SECONDS: Final = 5
# After this long no further attempt is begun, so a store that never answers costs four time-outs and the pauses.
_RETRY_SECONDS = 120
PART_BYTES: Final = 5 * 2**20
"""Of a file that are read or written in one request; S3 takes no smaller parts."""
CONCURRENT: Final = 4
"""Files at a time: one alone does not fill a fast line. Of files that are written two parts each are on their way; a
line of 11 Mbit/s moves them in time."""
# The codes of errors have this form with all three providers; anything else is not shown.
_CODE = re.compile(r"<Code>([A-Za-z]{3,60})</Code>")
_STATUS = re.compile(r"status(?: code)?:? (\d{3})\b")
_NO_CREDENTIALS = re.compile(r"169\.254\.169\.254|metadata\.google|credential", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Version:
    """What tells the content of an object from an earlier one; stores use one of the two or both.

    Attributes:
        e_tag: of HTTP.
        version: of the store.
    """

    e_tag: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """An object that was read.

    Attributes:
        data: its bytes.
        version: of the bytes.
    """

    data: bytes
    version: Version


class Unchanged:
    """What `Objects.get` returns for an object that is still of the version that is known."""


class Conflict(Exception):
    """An object is not of the version that was to be replaced."""


class Objects:
    """The objects below an address. Keys are relative to it.

    Args:
        address: where they are.

    Raises:
        ObjectStoreError: obstore is not installed, or the environment has settings that it refuses.
    """

    def __init__(self, address: Address) -> None:
        """Make the client; nothing is sent."""
        self.address = address
        self._client = _client(address)

    def get(self, key: str, *, most_bytes: int, known: Version | None = None) -> Content | Unchanged | None:
        """Read a small object.

        Args:
            key: of the object.
            most_bytes: a larger one is refused before it is read.
            known: version of it that is at hand.

        Returns:
            The content; None if there is none.
        """
        from obstore.exceptions import NotModifiedError

        options = {"if_none_match": known.e_tag} if known is not None and known.e_tag else {}
        with self._telling(f"reading {key}"):
            try:
                found = self._client.get(key, options=options)
            except NotModifiedError:
                return Unchanged()
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return None
            if found.meta["size"] > most_bytes:
                raise ObjectStoreError(
                    f"{self.address}: {key} has {found.meta['size']} bytes, more than the {most_bytes} that such a "
                    "file may have; it is not a file of a memory"
                )
            return Content(bytes(found.bytes()), Version(found.meta["e_tag"], found.meta["version"]))

    def get_part(self, key: str, start: int, end: int) -> bytes | None:
        """Read bytes of an object; None if there is no such object, or it ends earlier."""
        with self._telling(f"reading {key}"):
            try:
                data = bytes(self._client.get_range(key, start=start, end=end))
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return None
            except Exception as error:
                if _status(error) == 416 or "range" in str(error).lower()[:200]:  # it begins after the end
                    return None
                raise
            return data if len(data) == end - start else None

    def put(self, key: str, content: bytes | Path) -> Version:
        """Write an object, or replace it."""
        with self._telling(f"writing {key}"):
            return _version(self._client.put(key, content, chunk_size=PART_BYTES, max_concurrency=2))

    def replace(self, key: str, content: bytes, before: Version | None) -> Version:
        """Write an object if it is still of a version.

        Args:
            key: of the object.
            content: new one.
            before: its present version; None: there is none yet.

        Raises:
            Conflict: it is of another version. Where an answer was lost and the request was sent twice, the other
                version may be the one that was to be written.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if before is None else {k: v for k, v in asdict(before).items() if v is not None}
        with self._telling(f"writing {key}"):
            try:
                return _version(self._client.put(key, content, mode=mode))
            except (AlreadyExistsError, PreconditionError):
                raise Conflict from None

    def list_keys(self) -> list[str]:
        """List all keys."""
        start = len(self.address.prefix) + 1 if self.address.prefix else 0
        with self._telling("listing the files"):
            return [
                meta["path"] if not meta["path"].startswith(f"{self.address.prefix}/") else meta["path"][start:]
                for page in self._client.list()
                for meta in page
            ]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is gone already does not matter."""
        with self._telling("deleting files that are not used any more"), ThreadPoolExecutor(CONCURRENT) as pool:
            for _ in pool.map(self._delete, keys):
                pass

    def _delete(self, key: str) -> None:
        try:
            self._client.delete(key)
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise

    @contextmanager
    def _telling(self, operation: str) -> Iterator[None]:
        """Replace an error of the client by a sentence."""
        try:
            yield
        except (ObjectStoreError, Conflict, KeyboardInterrupt):
            raise
        except Exception as error:  # noqa: BLE001  errors of many kinds, which share no base
            raise store_failure(self.address, operation, str(error)) from None


def store_failure(address: Address, operation: str, answer: str) -> ObjectStoreError:
    """Return the error to raise when an operation on a store failed.

    Args:
        address: of the memory or the features.
        operation: such as "reading MEMORY.json".
        answer: the text of the error, of which nothing is repeated but a status and a code.
    """
    return ObjectStoreError(f"{address}: {operation} failed: {_reason(address, answer)}")


def _reason(address: Address, answer: str) -> str:
    """Say why an operation failed, and what to check."""
    variables, bucket = address.variables, f"{address.scheme}://{address.bucket}"
    server = f"the server {address.server}" if address.server else f"the store of {bucket}"
    code = _code(answer)
    status = _status(answer)
    if code == "NoSuchBucket" or "ContainerNotFound" in answer:
        return f"{server} has no bucket {address.bucket!r}. Check the name, and {address.server_variable}"
    if code in ("ExpiredToken", "TokenRefreshRequired", "RequestExpired"):
        return f"the credentials have expired. Get new ones into the environment ({variables}_…)"
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthenticationFailed") or status == 401:
        return f"{server} does not accept the credentials. Check those of the environment ({variables}_…)"
    if "169.254.169.254" in answer or "metadata.google" in answer:
        return f"there are no credentials for {server}. Put them into the environment ({variables}_…)"
    if code in ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException") or "redirect" in answer.lower():
        return f"the bucket {address.bucket!r} is in another region. Name it in {variables}_REGION"
    if status == 403:
        return (
            f"{server} gives no permission. Check that these credentials ({variables}_…) may do that in "
            f"{bucket}, or ask its owner"
        )
    if status == 429 or (status or 0) >= 500:
        return f"{server} answers with status {status} ({ATTEMPTS} attempts). Try again later, or check the server"
    if "BadScheme" in answer or "builder error" in answer or "scheme is not allowed" in answer:
        return f"{server} is named with http://, not https://. If that is right, set {variables}_ALLOW_HTTP=true"
    if "Timeout" in answer or "TimedOut" in answer or "timed out" in answer:
        seconds = f"within {REQUEST_SECONDS} s ({ATTEMPTS} attempts)"
        return f"{server} did not answer {seconds}. Check the network, and {address.server_variable}"
    if "Connect" in answer or "error sending request" in answer or "dns error" in answer:
        return f"{server} cannot be reached ({ATTEMPTS} attempts). Check the network, and {address.server_variable}"
    if _NO_CREDENTIALS.search(answer):
        return f"there are no usable credentials for {server}. Check those of the environment ({variables}_…)"
    shown = ", ".join([*([f"status {status}"] if status else []), *([code] if code else [])]) or "none that is known"
    return f"{server} gives an answer that was not expected ({shown})"


def allow_http(address: Address) -> bool:
    """Say whether the environment allows a server without encryption."""
    return os.environ.get(f"{address.variables}_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")


def _client(address: Address) -> Client:
    try:
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError:
        raise ObjectStoreError(f'{address} needs the package obstore: pip install "recognizer[objects]"') from None
    options: Any = {
        "client_options": {
            "timeout": timedelta(seconds=REQUEST_SECONDS),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "allow_http": allow_http(address),
        },
        "retry_config": {"max_retries": ATTEMPTS - 1, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
        "prefix": address.prefix or None,
    }
    try:
        if address.scheme == "s3":
            return S3Store(address.bucket, **options)
        if address.scheme == "gs":
            return GCSStore(address.bucket, **options)
        return AzureStore(address.bucket, **options)
    except Exception as error:  # noqa: BLE001  errors of many kinds
        raise store_failure(address, "reading the settings of the environment", str(error)) from None


def _version(result: PutResult) -> Version:
    return Version(result["e_tag"], result["version"])


def _code(answer: object) -> str | None:
    found = _CODE.search(str(answer))
    return found[1] if found else None


def _status(answer: object) -> int | None:
    found = _STATUS.search(str(answer))
    return int(found[1]) if found else None
