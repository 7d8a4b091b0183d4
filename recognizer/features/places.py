"""Where the table of one encoder's features is: a folder, or an address on an object store.

On an object store Lance itself reads and writes, row by row and with conditional requests. A mirror, as memories have
it, would fetch and publish all rows for a run that needs a few: they take 200 kB an image, and each counts on its own.
So several machines may store features at one address at a time. A damaged table is left as it is there, for others may
be using it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa

from memory.durable import write_failure
from memory.errors import ObjectStoreError, printable_path
from memory.remote.address import Address
from memory.remote.objects import (
    ATTEMPTS,
    CONNECT_SECONDS,
    REQUEST_SECONDS,
    Conflict,
    Objects,
    allow_http,
    store_failure,
)
from memory.store import LanceObject
from recognizer.errors import RecognizerError

NAME: Final = "images"
"""Of the table."""
# What only errors of the connection have in them, and none about the content of a file.
_FROM_STORE = re.compile(r"RetryError|HttpError|status|Credential|timed out|Timeout|redirect")
# The object that says that a machine has begun to make the table.
_BEGUN = f"{NAME}.begun"
# So long others wait for it, and look so often.
WAIT_S, LOOK_S = 10.0, 0.2
# How Lance says that there is no table.
_NO_TABLE = "was not found"


class FeaturesDamaged(RecognizerError):
    """A table at an address that cannot be read."""


class TablePlace(Protocol):
    """Where a table is; as text it is shown to the user."""

    @property
    def name(self) -> str:
        """The last part of the place, which tells encoders apart."""
        ...

    def create(self, rows: pa.Table) -> LanceObject:
        """Make the table of these rows."""
        ...

    def open(self) -> LanceObject | None:
        """Open the table; None: there is none."""
        ...

    def files(self) -> set[str]:
        """Return the files that a failed write must leave."""
        ...

    def delete_others(self, files: set[str]) -> None:
        """Delete what a failed write left beside these files."""
        ...

    def failure(self, operation: str, error: BaseException) -> Exception:
        """Return an error that says why an operation failed, and what to do."""
        ...

    def set_aside(self) -> str | None:
        """Move a damaged table away; returns its new name, None where it has to stay.

        Raises:
            OSError: it cannot be moved.
        """
        ...


class TableFolder:
    """A folder that holds the table.

    Args:
        folder: it exists.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the folder."""
        self._folder = folder

    def __str__(self) -> str:
        """Return the path, safe to print."""
        return printable_path(self._folder)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self._folder.name

    def create(self, rows: pa.Table) -> LanceObject:
        """Make the table of these rows."""
        return self._connect().create_table(NAME, data=rows)

    def open(self) -> LanceObject | None:
        """Open the table; None: there is none."""
        return self._connect().open_table(NAME) if (self._folder / f"{NAME}.lance").exists() else None

    def files(self) -> set[str]:
        """Return the files that a failed write must leave."""
        return set(self._files())

    def delete_others(self, files: set[str]) -> None:
        """Delete what a failed write left: it would fill the disk."""
        with contextlib.suppress(OSError):
            for path in set(self._files()) - files:
                os.unlink(path)

    def failure(self, operation: str, error: BaseException) -> Exception:
        """Return an error that says why the disk refused."""
        return write_failure(self._folder, error if isinstance(error, OSError) else RuntimeError(str(error)))

    def set_aside(self) -> str | None:
        """Move a damaged table away, in place of an earlier one; returns its new name."""
        aside = self._folder / f"{NAME}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(self._folder / f"{NAME}.lance", aside)
        return aside.name

    def _connect(self) -> LanceObject:
        import lancedb

        return lancedb.connect(self._folder)

    def _files(self) -> Iterator[str]:
        return (os.path.join(parent, name) for parent, _, names in os.walk(self._folder) for name in names)


class TableAddress:
    """An address below which the table is.

    Args:
        address: of the features of one encoder.
    """

    def __init__(self, address: Address) -> None:
        """Keep the address."""
        self._address = address

    def __str__(self) -> str:
        """Return the address."""
        return str(self._address)

    @property
    def name(self) -> str:
        """The last part of the address."""
        return str(self._address).rpartition("/")[2]

    def create(self, rows: pa.Table) -> LanceObject:
        """Make the table of these rows, or add them to the one that another machine has just made.

        Lance would let two machines that begin at a time overwrite each other's table. So one of them makes it, and the
        others wait for it.
        """
        table = None if self._is_first() else self._made_by_another()
        if table is None:
            table = self._connect().create_table(NAME, schema=rows.schema, exist_ok=True)
        table.add(rows)
        return table

    def _is_first(self) -> bool:
        """Say whether no machine has begun to make a table here before this one."""
        try:
            Objects(self._address).replace(_BEGUN, b"", None)
        except Conflict:
            return False
        return True

    def _made_by_another(self) -> LanceObject | None:
        """Wait for the table that another machine is making; None: it seems to have died over that."""
        for _ in range(round(WAIT_S / LOOK_S)):
            if (table := self.open()) is not None:
                return table
            time.sleep(LOOK_S)
        return None

    def _connect(self) -> LanceObject:
        """Return the LanceDB connection; credentials and servers come from the environment."""
        import lancedb

        options = {
            "timeout": f"{REQUEST_SECONDS}s",
            "connect_timeout": f"{CONNECT_SECONDS}s",
            "client_max_retries": str(ATTEMPTS - 1),
            "client_retry_timeout": str(2 * REQUEST_SECONDS),
            "download_retry_count": "1",
            "allow_http": str(allow_http(self._address)).lower(),
        }
        return lancedb.connect(str(self._address), storage_options=options)

    def open(self) -> LanceObject | None:
        """Open the table; None: there is none."""
        try:
            return self._connect().open_table(NAME)
        except ValueError as error:
            if _NO_TABLE in str(error):
                return None
            raise

    def files(self) -> set[str]:
        """Return nothing: what a failed write left is deleted by no one but Lance."""
        return set()

    def delete_others(self, files: set[str]) -> None:
        """Delete nothing; another machine may just be writing."""

    def failure(self, operation: str, error: BaseException) -> Exception:
        """Return an error that names the store, and nothing that the store answered."""
        if isinstance(error, ObjectStoreError):
            return error
        if _FROM_STORE.search(str(error)):
            return store_failure(self._address, operation, str(error))
        return FeaturesDamaged(
            f"{self._address}: {operation} failed: what is stored there is damaged, or not a table of features. Delete "
            "it if nobody else uses it, or name another address"
        )

    def set_aside(self) -> str | None:
        """Return None: it stays."""
        return None
