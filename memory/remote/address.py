"""Addresses on an object store, and the folder of the user's cache that belongs to each."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from memory.errors import ObjectStoreError, printable, printable_path

# By scheme: the prefix of the variables of the environment that its client reads.
SCHEMES: Final[Mapping[str, str]] = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_ONE_SLASH = re.compile(rf"({'|'.join(SCHEMES)}):/([^/].*)", re.IGNORECASE | re.DOTALL)
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,221}")  # the longest names are those of Google
# What has a meaning of its own in addresses, in one library or another, or on a terminal.
_UNSAFE = re.compile(r"[%?#*\\:@\x00-\x1f\x7f]")
_MOST_CHARACTERS = 900  # a key has 1,024 bytes, and the names of the files come after the prefix
# Where a client looks for the server, or the account that names it; the first that is set counts.
_SERVERS: Final[Mapping[str, tuple[str, ...]]] = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "AZURE_STORAGE_ACCOUNT_NAME"),
}


@dataclass(frozen=True, slots=True)
class Address:
    """A place on an object store.

    Attributes:
        scheme: "s3", "gs" or "az".
        bucket: the bucket, or the container of Azure.
        prefix: what all keys begin with, without a slash at either end; may be empty.
    """

    scheme: str
    bucket: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address such as ``s3://bucket/birds``.

        Raises:
            ObjectStoreError: it has another form, or a password in it, which is then not repeated.
        """
        scheme, _, rest = text.partition("://")
        scheme = scheme.lower()
        if scheme not in SCHEMES:
            known = ", ".join(f"{name}://" for name in SCHEMES)
            raise ObjectStoreError(f"{printable(scheme)}:// is not an object store that is known; use one of {known}")
        bucket, _, prefix = rest.partition("/")
        if "@" in bucket or "?" in rest:
            raise ObjectStoreError(
                f"an address {scheme}://… holds a name with a password, or a query. Give {scheme}://BUCKET/PREFIX, and "
                f"the credentials in the environment ({SCHEMES[scheme]}_…)"
            )
        prefix = prefix.rstrip("/")
        parts = prefix.split("/") if prefix else []
        if (
            not _BUCKET.fullmatch(bucket)
            or {"", ".", ".."} & set(parts)
            or _UNSAFE.search(prefix)
            or len(prefix.encode(errors="replace")) > _MOST_CHARACTERS
            or not prefix.isprintable()
        ):
            raise ObjectStoreError(
                f"{printable(text, 200)} is not an address {scheme}://BUCKET/PREFIX: a prefix has no empty part, no "
                "part . or .., and none of the characters % ? # * : @ \\"
            )
        return cls(scheme, bucket, prefix)

    def __str__(self) -> str:
        """Return the address as text."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    def below(self, part: str) -> Address:
        """Return the address of a part of this one."""
        return Address(self.scheme, self.bucket, f"{self.prefix}/{part}".lstrip("/"))

    @property
    def variables(self) -> str:
        """The prefix of the variables of the environment that hold the credentials."""
        return SCHEMES[self.scheme]

    @property
    def server(self) -> str:
        """Host and port of the server, or the account, that the environment names; empty for that of the provider."""
        return _host(os.environ.get(self.server_variable, ""))

    @property
    def server_variable(self) -> str:
        """The variable of the environment that names the server, or that can name one."""
        names = _SERVERS[self.scheme]
        return next((name for name in names if os.environ.get(name)), names[0])


def _host(value: str) -> str:
    """Return host and port of an address, without the name and the password that it may hold."""
    if "://" not in value:
        return printable(value)
    try:
        parts = urlsplit(value)
        return printable(f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}")
    except ValueError:
        return ""


def is_address(location: str | Path) -> bool:
    """Say whether a text is an address and not a path.

    Raises:
        ObjectStoreError: it is an address that has lost a slash, as `pathlib.Path` makes it.
    """
    if slip := _ONE_SLASH.match(str(location)):
        scheme, rest = slip.groups()
        as_text = " as a str, because a Path drops a slash" if isinstance(location, Path) else ""
        raise ObjectStoreError(
            f"{printable(str(location), 200)} has one slash where an address has two: write {scheme}://"
            f"{printable(rest, 200)}{as_text}"
        )
    return isinstance(location, str) and _ADDRESS.match(location) is not None


def cache_folder(kind: str, address: Address) -> Path:
    """Make the folder of an address in the user's cache, which only this user may enter.

    Args:
        kind: of its content, a folder of the cache.
        address: the same bucket on another server has another folder.

    Raises:
        ObjectStoreError: it cannot be made, or another user owns it.
    """
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = (configured if configured.is_absolute() else Path.home() / ".cache") / "recognizer" / kind
    # The first part is for people who look into the cache, the second one makes the name distinct.
    shown = re.sub(r"[^A-Za-z0-9]+", "-", f"{address.bucket}-{address.prefix}").strip("-")[-60:]
    servers = [_host(os.environ.get(name, "")) for name in _SERVERS[address.scheme]]
    digest = hashlib.sha256(" ".join([str(address), *servers]).encode()).hexdigest()[:16]
    folder = base / f"{shown}-{digest}"
    try:
        base.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise ObjectStoreError(f"{printable_path(folder)} is a link, or not yours; delete it")
        folder.chmod(0o700)
    except OSError as error:
        raise ObjectStoreError(
            f"{printable_path(folder)} cannot be made ({error.strerror}), and the mirror of {address} goes there. Make "
            "room, or name another folder in XDG_CACHE_HOME"
        ) from error
    return folder
