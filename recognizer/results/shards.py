"""A folder of Parquet files that a run over many workers fills, and that is resumed by the keys of the images in it.

    DIR/_run.json            what made it
    DIR/rows-000000.parquet  the rows of some images, in the columns of `run --format parquet`

Workers send tables, and one process writes them: a file is written aside and renamed, so it is whole or absent, and an
image that was sent twice is written once. Ray's own writer names files at random, leaves the file of a killed worker
half written, and its checkpoints want a file system that all workers share and one row for each image.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from memory.durable import replacing
from memory.errors import WriteFailed
from memory.wording import counted
from recognizer.results.disk import open_locked
from recognizer.results.errors import REMEDY, OutputUnusable, ResumeRefused
from recognizer.results.run_info import (
    RunInfo,
    RunSetup,
    finish_run_info,
    read_run_info,
    require_same_settings,
    write_run_info,
)
from recognizer.results.sink import RunCounts, require_complete

if TYPE_CHECKING:
    import pyarrow as pa

# Readers of a folder of Parquet files, such as pandas and Spark, leave out files whose names begin like this.
INFO_NAME = "_run.json"
LOCK_NAME = "_run.lock"
NUMBER = "number"
"""Column of the tables that workers send: the number of the image. It is not stored."""
# A file is written when so many images wait, or the first has waited so long: few and large files, and a killed run
# loses a minute. At 10 kB an image 80 MB wait.
SHARD_IMAGES = 8192
SHARD_SECONDS = 60.0


def shards_of(folder: Path) -> list[Path]:
    """Return the files of a folder that have the name of one that a run writes."""
    return sorted(folder.glob("rows-*.parquet"))


def require_continuable(
    folder: str | Path, setup: RunSetup, *, overwrite: bool = False, unsettled: Iterable[str] = ()
) -> RunInfo | None:
    """Refuse a folder that a run must not fill; nothing is changed.

    Args:
        folder: may be missing.
        setup: describes the run.
        overwrite: whether the rows of an earlier run are to be dropped.
        unsettled: settings whose values are not known yet; they are not compared.

    Returns:
        What made the rows that the run continues; None: there are none.

    Raises:
        OutputUnusable: it is a file.
        ResumeRefused: it holds other Parquet files, or rows that were made under other settings.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and not folder.is_dir():
        raise OutputUnusable(f"{folder} is a file; give a folder, which will hold Parquet files, as --output")
    shards = shards_of(folder)
    foreign = sorted(path.name for path in folder.glob("*.parquet") if path not in shards)
    if foreign:
        raise ResumeRefused(
            f"{folder} holds {foreign[0]}, which no run wrote, and its rows would mix with those of this run; "
            "give another folder as --output"
        )
    if overwrite or not shards:  # without rows, earlier settings do not bind this run
        return None
    earlier = read_run_info(folder / INFO_NAME)
    if earlier is None:
        raise ResumeRefused(f"{folder} holds rows without a {INFO_NAME} that describes them; {REMEDY}")
    settled = {name: earlier.settings[name] for name in unsettled if name in earlier.settings}
    now = replace(setup, settings={**setup.settings, **settled})
    require_same_settings(earlier, now.info(output=folder.name, format="parquet", count=0), folder)
    return earlier


class ShardWriter:
    """Writes the rows of one run to a folder.

    Attributes:
        folder: the folder.
        info: what made it.
        todo: numbers of the images to recognise, ascending.
    """

    def __init__(
        self,
        folder: str | Path,
        keys: Sequence[str],
        setup: RunSetup,
        *,
        overwrite: bool = False,
        retry_errors: bool = False,
        keep_missing: bool = False,
        warn: Callable[[str], None],
    ) -> None:
        """Open a folder, which may hold the rows of an earlier run.

        Args:
            folder: is made if it is missing.
            keys: of all images of the run, in order.
            setup: describes the run.
            overwrite: drop the rows of an earlier run.
            retry_errors: repeat the failed images.
            keep_missing: keep the rows of images that are not listed.
            warn: called with a sentence where rows of earlier runs are dropped or done again.

        Raises:
            OutputUnusable: the folder cannot be written, or another run is writing it.
            ResumeRefused: it holds other Parquet files, or rows that were made under other settings.
        """
        self.folder = Path(os.path.abspath(folder))
        self._keys = keys
        self._waiting: list[pa.Table] = []
        self._waiting_images = 0
        self._waiting_since = 0.0
        self._errors: Counter[str] = Counter()
        require_continuable(folder, setup, overwrite=overwrite)  # before a lock file lies in a folder of somebody else
        self._lock: IO[bytes] = open_locked(self.folder / LOCK_NAME)
        try:
            self.info = setup.info(output=self.folder.name, format="parquet", count=len(keys))
            earlier = require_continuable(folder, setup, overwrite=overwrite)
            if earlier is not None:
                self.info = replace(self.info, started=earlier.started, resumed=earlier.resumed + 1)
            for path in shards_of(self.folder) if overwrite else ():
                path.unlink()
            self._done = bytearray(len(keys))
            self._missing = self._read(retry_errors=retry_errors, keep_missing=keep_missing, warn=warn)
            self.info = replace(self.info, count=len(keys) + self._missing)
            self.todo = [number for number, done in enumerate(self._done) if not done]
            write_run_info(self.folder / INFO_NAME, self.info)
        except BaseException:
            self._lock.close()
            raise

    @property
    def done_rows(self) -> int:
        """Number of listed images whose rows are written or wait to be, including those of earlier runs."""
        return sum(self._done)

    def write(self, table: pa.Table) -> tuple[int, int]:
        """Take the rows of some images.

        Args:
            table: in the columns of `arrow_table`, and `NUMBER`; holds all rows of each of its images.

        Returns:
            How many images are new, and how many of them failed.

        Raises:
            OutputUnusable: the disk refuses.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        new = [not self._done[number] for number in table[NUMBER].to_pylist()]
        table = table.filter(pa.array(new, pa.bool_()))
        numbers = set(table[NUMBER].to_pylist())
        failed = table.filter(pc.equal(table["status"], "error"))["error_code"].to_pylist()
        for number in numbers:
            self._done[number] = 1
        self._errors.update(failed)
        if numbers:
            self._waiting_since = self._waiting_since if self._waiting else time.monotonic()
            self._waiting.append(table.drop_columns(NUMBER))
            self._waiting_images += len(numbers)
        if self._waiting_images >= SHARD_IMAGES or time.monotonic() - self._waiting_since > SHARD_SECONDS:
            self.flush()
        return len(numbers), len(failed)

    def flush(self) -> None:
        """Write the rows that wait.

        Raises:
            OutputUnusable: the disk refuses.
        """
        import pyarrow as pa

        if self._waiting:
            taken = {int(path.stem.removeprefix("rows-")) for path in shards_of(self.folder)}
            _write(self.folder / f"rows-{max(taken, default=-1) + 1:06}.parquet", pa.concat_tables(self._waiting))
        self._waiting, self._waiting_images = [], 0

    def finish(self) -> RunCounts:
        """Write what waits, and mark the run as finished.

        Returns:
            Counts over all images of the folder.

        Raises:
            ValueError: images are missing.
            OutputUnusable: the disk refuses.
        """
        if self.done_rows < len(self._keys):
            raise ValueError(f"{self.done_rows} of {len(self._keys)} images are written; the run is not finished")
        self.flush()
        counts = RunCounts(self.info.count - self._errors.total(), self._errors)
        require_complete(self.info.count, counts)
        self.info = finish_run_info(self.info, counts)
        write_run_info(self.folder / INFO_NAME, self.info)
        return counts

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write what waits, so that a run that failed or was interrupted keeps it, and let other runs write."""
        try:
            self.flush()
        finally:
            self._lock.close()

    def _read(self, *, retry_errors: bool, keep_missing: bool, warn: Callable[[str], None]) -> int:
        """See which images have their rows, and drop rows that do not count; returns how many images are not listed."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        numbers = {key: number for number, key in enumerate(self._keys)}
        missing: set[str] = set()
        dropped: set[str] = set()
        for path in shards_of(self.folder):
            try:
                table = pq.read_table(path)
                read = zip(*(table[name].to_pylist() for name in ("path", "error_code")), strict=True)
            except (OSError, pa.ArrowException, KeyError) as error:
                aside = path.with_name(f"{path.name}.damaged")
                os.replace(path, aside)
                warn(f"{path}: damaged ({error}), so its images are done again; it is now {aside.name}")
                continue
            here: dict[str, bool] = {}
            keep: list[bool] = []
            for key, code in read:
                if key not in here:
                    here[key] = self._keeps(key, code, numbers, missing, dropped, retry_errors, keep_missing)
                keep.append(here[key])
            if not any(keep):
                path.unlink()
            elif not all(keep):
                _write(path, table.filter(pa.array(keep)))
        if missing or dropped:
            fate = "kept" if keep_missing else "dropped (--keep-missing keeps them)"
            warn(f"no longer among the images: {counted(len(missing | dropped), 'image')}; earlier rows are {fate}")
        return len(missing)

    def _keeps(
        self,
        key: str,
        code: str | None,
        numbers: dict[str, int],
        missing: set[str],
        dropped: set[str],
        retry_errors: bool,
        keep_missing: bool,
    ) -> bool:
        """Decide whether the rows of an image of an earlier run stay, and count them."""
        number = numbers.get(key)
        if number is None and not keep_missing:
            dropped.add(key)
            return False
        if (retry_errors and code is not None) or key in missing or (number is not None and self._done[number]):
            return False
        if number is None:
            missing.add(key)
        else:
            self._done[number] = 1
        if code is not None:
            self._errors[code] += 1
        return True


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    try:
        with replacing(path) as draft:
            pq.write_table(table, draft, compression="zstd")
    except WriteFailed as error:
        raise OutputUnusable(f"{error}; the rows of earlier files are safe") from error
