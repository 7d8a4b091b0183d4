"""Open the output of a run: files that can be resumed, or standard output."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from recognizer.results.disk import require_writable
from recognizer.results.ledger import ImagePath
from recognizer.results.run_files import OutputFormat, find_run_files, infer_format
from recognizer.results.run_info import RunInfo, RunSetup
from recognizer.results.sink import RowSink
from recognizer.results.stream import StreamWriter
from recognizer.results.writer import ResultWriter


def open_results(
    output: str | Path,
    *,
    keys: Sequence[str],
    batch_size: int,
    setup: RunSetup,
    output_format: OutputFormat | None = None,
    overwrite: bool = False,
    retry_errors: bool = False,
    image_path: ImagePath | None = None,
    warn: Callable[[str], None] | None = None,
) -> RowSink:
    """Open the output of a run; continue an earlier run if it left one.

    Of an earlier run, batches whose rows are damaged, and those of which an image has changed, are done again.

    Args:
        output: a file, created with its folders if it is missing; ``-`` for standard output.
        keys: keys of all images of the run, in order.
        batch_size: images in a batch, at least 1; must be the same on resume, because the grid of batches is fixed.
        setup: describes the run.
        output_format: None: inferred from the suffix.
        overwrite: drop the results of an earlier run.
        retry_errors: repeat the batches with failed images.
        image_path: finds the file of the image of a number, to see whether it has changed; None: it is not looked at.
        warn: called with a sentence where finished batches are done again.

    Returns:
        The sink; write the batches of its `pending` in that order, then call `finish`.

    Raises:
        OutputUnusable: the output cannot be written.
        ResumeRefused: the output exists and is not the beginning of this run.
        ValueError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"a batch size of {batch_size}; give 1 or more")
    chosen = infer_format(output, output_format)
    if str(output) == "-":
        return StreamWriter(sys.stdout.buffer, keys=keys, batch_size=batch_size, output_format=chosen)
    files = find_run_files(Path(output), chosen)
    info = RunInfo(
        output=files.output.name,
        format=chosen,
        command=tuple(setup.command),
        model=setup.model,
        memory=setup.memory,
        settings=setup.settings,
        device=setup.device,
        input_root=setup.input_root,
        count=len(keys),
        keys_sha256=_keys_sha256(keys),
        batch_size=batch_size,
    )
    return ResultWriter(
        files, info, keys, overwrite=overwrite, retry_errors=retry_errors, image_path=image_path, warn=warn
    )


def check_output(output: str | Path, output_format: OutputFormat | None = None) -> None:
    """Refuse an output that cannot be written, before anything slow is loaded; no new file remains.

    Raises:
        OutputUnusable: it cannot be written, or another run is writing it.
    """
    chosen = infer_format(output, output_format)
    if str(output) == "-":
        return
    require_writable(find_run_files(Path(output), chosen).journal)


def is_finished(output: str | Path, output_format: OutputFormat | None = None) -> bool:
    """Tell whether the run that wrote this output is finished, so that there is nothing to resume."""
    if str(output) == "-":
        return False
    info = find_run_files(Path(output), infer_format(output, output_format)).read_info()
    return info is not None and info.state == "finished"


def _keys_sha256(keys: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for key in keys:
        digest.update(os.fsencode(key) + b"\0")
    return digest.hexdigest()
