"""The files beside an output: how they are named, and the log of timings."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from recognizer.results.errors import OutputUnusable
from recognizer.results.run_info import read_run_info
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


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of a run.

    Attributes:
        output: the results.
        journal: the file that rows are appended to; for jsonl the output itself.
        info: `run.json`, prefixed with the name of the output if another output in the folder has that file.
        timing: `timing.jsonl`, prefixed in the same way.
    """

    output: Path
    journal: Path
    info: Path
    timing: Path


def infer_format(output: str | Path, requested: OutputFormat | None = None) -> OutputFormat:
    """Return the requested format of an output, or infer it from the suffix.

    Raises:
        OutputUnusable: no format is requested and the suffix is unknown.
    """
    if requested is not None:
        return requested
    if str(output) == "-":
        return "jsonl"
    suffix = Path(output).suffix.lower()
    if suffix not in _FORMAT_OF_SUFFIX:
        raise OutputUnusable(
            f"{output}: the suffix {suffix!r} names no format; end it in .jsonl, .csv or .parquet, or give --format"
        )
    return _FORMAT_OF_SUFFIX[suffix]


def find_run_files(output: Path, output_format: OutputFormat) -> RunFiles:
    """Name the files of a run.

    The first output in a folder has `run.json`. Another one has `STEM.run.json`, or `NAME.run.json` if that is taken.

    Raises:
        OutputUnusable: the output is a folder.
    """
    output = Path(os.path.abspath(output))  # `new/../a.jsonl` is `a.jsonl`, whether or not `new` exists
    if output.is_dir():
        raise OutputUnusable(f"{output} is a folder; name a file in it, e.g. {output / 'results.jsonl'}")
    journal = output if output_format == "jsonl" else output.with_name(f"{output.name}.journal.jsonl")
    prefixes = ["", f"{output.stem}.", f"{output.name}."]
    places = [output.with_name(f"{prefix}run.json") for prefix in prefixes]
    own = [i for i, place in enumerate(places) if _belongs_to(place, output.name)]
    free = [i for i, place in enumerate(places) if not place.exists() and place.name != output.name]
    chosen = (own or free or [len(places) - 1])[0]
    timing = output.with_name(f"{prefixes[chosen]}timing.jsonl")
    return RunFiles(output, journal, places[chosen], timing)


def _belongs_to(info_path: Path, output_name: str) -> bool:
    info = read_run_info(info_path)
    return info is not None and info.output == output_name


class TimingLog:
    """One line of JSON per batch, beside the results. Timings differ from run to run, so rows do not contain them."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """Open the log for appending.

        Raises:
            OutputUnusable: it cannot be written.
        """
        try:
            self._stream = open(path, "w" if overwrite else "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise OutputUnusable(f"{path}: cannot be written: {error.strerror}") from error

    def write(self, batch: int, images: int, timing: BatchTiming, write_s: float) -> None:
        """Append the line of one batch."""
        seconds = {**asdict(timing), "write_s": write_s}
        line = {"batch": batch, "images": images, **{name: round(value, 6) for name, value in seconds.items()}}
        self._stream.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the log."""
        self._stream.close()
