"""The files of a run: which names they have beside the output."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recognizer.results.errors import OutputUnusable
from recognizer.results.run_info import read_run_info

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
        journal: where rows are appended; the output itself for jsonl.
        info: `run.json`, with the output's name before it where another output in the folder has that.
        timing: `timing.jsonl`, named like `info`.
    """

    output: Path
    journal: Path
    info: Path
    timing: Path


def infer_format(output: str | Path, given: OutputFormat | None = None) -> OutputFormat:
    """Choose the format of an output: the one given, else by its suffix.

    Raises:
        OutputUnusable: none is given and the suffix says nothing.
    """
    if given is not None:
        return given
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

    `run.json` is the name for the first output of a folder; a further one has `STEM.run.json`, then `NAME.run.json`.

    Raises:
        OutputUnusable: the output is a folder.
    """
    output = Path(os.path.abspath(output))  # `new/../a.jsonl` is `a.jsonl`, whether `new` is there or not
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
