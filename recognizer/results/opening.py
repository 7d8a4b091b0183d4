"""Open the output of a run: files that can be resumed, or standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from recognizer.results.disk import require_writable
from recognizer.results.ledger import CurrentStamp
from recognizer.results.run_files import OutputFormat, find_run_files, infer_format
from recognizer.results.run_info import RunSetup
from recognizer.results.sink import RowSink
from recognizer.results.stream import StreamWriter
from recognizer.results.writer import ResultWriter


def open_results(
    output: str | Path,
    *,
    keys: Sequence[str],
    setup: RunSetup,
    output_format: OutputFormat | None = None,
    overwrite: bool = False,
    retry_errors: bool = False,
    keep_missing: bool = False,
    current_stamp: CurrentStamp | None = None,
    warn: Callable[[str], None] | None = None,
) -> RowSink:
    """Open the output of a run; continue an earlier run if it left one.

    Rows of earlier runs are known by their images: those whose image is listed and unchanged are kept. The others are
    dropped, and the images without a row are to be recognised. The finished output has the rows in the order of `keys`,
    as that of a fresh run.

    Args:
        output: a file, created with its folders if it is missing; ``-`` for standard output.
        keys: keys of all images of the run, in order.
        setup: describes the run.
        output_format: None: inferred from the suffix.
        overwrite: drop the results of an earlier run.
        retry_errors: repeat the failed images.
        keep_missing: keep the rows of earlier images that are not listed, after all others and sorted by key, and of
            listed ones whose file is gone.
        current_stamp: finds the stamps of the images as they are now, to see which have changed; None: none has.
        warn: called with a sentence where rows of earlier runs are done again, or their images are not listed.

    Returns:
        The sink; write the rows of the images of its `todo` in that order, then call `finish`.

    Raises:
        OutputUnusable: the output cannot be written.
        ResumeRefused: the output exists and was not made by such a run.
    """
    chosen = infer_format(output, output_format)
    if str(output) == "-":
        return StreamWriter(sys.stdout.buffer, keys=keys, output_format=chosen)
    files = find_run_files(Path(output), chosen)
    info = setup.info(output=files.output.name, format=chosen, count=len(keys))
    return ResultWriter(
        files,
        info,
        keys,
        overwrite=overwrite,
        retry_errors=retry_errors,
        keep_missing=keep_missing,
        current_stamp=current_stamp,
        warn=warn or (lambda _: None),
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
