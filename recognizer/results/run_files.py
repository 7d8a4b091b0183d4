"""The files beside an output: how they are named, and the log of timings."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from memory.durable import write_all
from recognizer.results.disk import disk_error
from recognizer.results.errors import OutputUnusable
from recognizer.results.run_info import RunInfo, read_run_info
from recognizer.results.shards import INFO_NAME, shards_of
from recognizer.results.sink import BatchTiming

OutputFormat = Literal["jsonl", "csv", "parquet"]
_FORMAT_OF_SUFFIX: dict[str, OutputFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_BESIDE = (".journal.jsonl", ".run.json", ".timing.jsonl", ".images.jsonl")


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of a run.

    Attributes:
        output: the results.
        journal: the file that rows are appended to; for jsonl the output itself.
        info: what made them.
        timing: how long each batch took.
        ledger: what vouches for each row.
    """

    output: Path
    journal: Path
    info: Path
    timing: Path
    ledger: Path

    def read_info(self) -> RunInfo | None:
        """Read what made the output; None if nothing says it.

        Earlier releases wrote it to `run.json`, or to `STEM.run.json` if another output in the folder had that file.
        """
        earlier = (self.output.with_name(name) for name in ("run.json", f"{self.output.stem}.run.json"))
        for path in (self.info, *earlier):
            info = read_run_info(path)
            if info is not None and info.output == self.output.name:
                return info
        return None


def names_file(output: str | Path) -> bool:
    """Tell whether an output has the suffix of a format, which a folder of results has not."""
    return Path(output).suffix.lower() in _FORMAT_OF_SUFFIX


def infer_format(output: str | Path, requested: OutputFormat | None = None) -> OutputFormat:
    """Return the requested format of an output, or infer it from the suffix.

    Raises:
        OutputUnusable: no format is requested and the suffix is unknown, as that of a folder.
    """
    if requested is not None:
        return requested
    if str(output) == "-":
        return "jsonl"
    suffix = Path(output).suffix.lower()
    if suffix not in _FORMAT_OF_SUFFIX:
        _refuse_shards(Path(output))
        raise OutputUnusable(
            f"{output}: the suffix {suffix!r} names no format; end it in .jsonl, .csv or .parquet, or give --format"
        )
    return _FORMAT_OF_SUFFIX[suffix]


def find_run_files(output: Path, output_format: OutputFormat) -> RunFiles:
    """Name the files of a run: each is named after the whole file name of the output.

    So no two outputs share one, and the lock of the journal protects all of them.

    Raises:
        OutputUnusable: the output is a folder, or named like a file beside another output.
    """
    output = Path(os.path.abspath(output))  # `new/../a.jsonl` is `a.jsonl`, whether or not `new` exists
    _refuse_shards(output)
    if output.is_dir():
        raise OutputUnusable(f"{output} is a folder; name a file in it, e.g. {output / 'results.jsonl'}")
    if output.name.endswith(_BESIDE):
        raise OutputUnusable(
            f"{output}: files beside results have such names ({', '.join(_BESIDE)}); choose another --output"
        )
    journal, info, timing, ledger = (output.with_name(output.name + suffix) for suffix in _BESIDE)
    return RunFiles(output, output if output_format == "jsonl" else journal, info, timing, ledger)


def _refuse_shards(output: Path) -> None:
    """Say what a folder is that a run on Ray has written.

    Raises:
        OutputUnusable: it is one.
    """
    if (output / INFO_NAME).is_file() or shards_of(output):
        raise OutputUnusable(
            f"{output} holds the results of a run on Ray, in Parquet files; continue it with --engine ray, or choose "
            "another --output"
        )


class TimingLog:
    """One line of JSON per batch, beside the results. Timings differ from run to run, so rows do not contain them."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """Open the log for appending.

        Raises:
            OutputUnusable: it cannot be written.
        """
        try:
            self._stream = open(path, "wb" if overwrite else "ab", buffering=0)  # noqa: SIM115  closed by close
        except OSError as error:
            raise disk_error(path, error, 0) from error
        self._path = path
        self._batches = 0

    def write(self, images: int, timing: BatchTiming, write_s: float) -> None:
        """Append the line of the next batch; batches are counted from 0 in each run.

        Raises:
            OutputUnusable: the disk refuses.
        """
        seconds = {**asdict(timing), "write_s": write_s}
        line = {"batch": self._batches, "images": images, **{name: round(value, 6) for name, value in seconds.items()}}
        data = json.dumps(line).encode() + b"\n"
        try:
            write_all(self._stream, data)
        except OSError as error:
            raise disk_error(self._path, error, len(data)) from error
        self._batches += 1

    def close(self) -> None:
        """Close the log."""
        self._stream.close()
