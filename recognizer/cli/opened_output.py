"""What `run` and `rerank` share: output and MLLM are opened together, and rows are counted as they are written."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from recognizer.cli.options import Format
from recognizer.cli.reranking import opened_reranker
from recognizer.console import note, progress_bar

if TYPE_CHECKING:
    from recognizer.results import Row, RowSink, RunSetup
    from recognizer.results.ledger import CurrentStamp
    from recognizer.results.run_files import OutputFormat
    from recognizer.settings import Settings
    from rerank.reranker import MllmReranker


def place_of(output: str) -> str:
    """Say where the results are."""
    return "on stdout" if output == "-" else f"in {output}"


@contextmanager
def opened_output(
    output: str,
    keys: Sequence[str],
    settings: Settings,
    setup: RunSetup,
    format: Format | None,
    *,
    unit: str = "images",
    overwrite: bool,
    retry_errors: bool = False,
    keep_missing: bool = False,
    current_stamp: CurrentStamp | None = None,
) -> Iterator[tuple[RowSink, MllmReranker | None]]:
    """Open the MLLM, if reranking is on and work is left, and then the output.

    The MLLM comes first: if it cannot be opened, an output that would be overwritten stays as it is.
    """
    from recognizer.results import is_finished, open_results

    seems_done = not (overwrite or retry_errors) and is_finished(output, format_name(format))
    with ExitStack() as stack:
        reranker = None if seems_done else stack.enter_context(opened_reranker(settings))
        sink = stack.enter_context(
            open_results(
                output,
                keys=keys,
                setup=setup,
                output_format=format_name(format),
                overwrite=overwrite,
                retry_errors=retry_errors,
                keep_missing=keep_missing,
                current_stamp=current_stamp,
                warn=note,
            )
        )
        if sink.done_rows:
            note(f"{sink.done_rows} of {len(keys)} {unit} are already done")
        if seems_done and sink.done_rows < len(keys):  # damaged rows, changed images, or more images than before
            reranker = stack.enter_context(opened_reranker(settings))
        yield sink, reranker


def show_progress(
    batches: Generator[Sequence[Row], None, None], sink: RowSink, total: int, description: str, *, unit: str = "images"
) -> None:
    """Work through the batches with a progress bar that starts at the rows of earlier runs."""
    from recognizer.results import ErrorRow

    with closing(batches), progress_bar(total, unit, description, done=sink.done_rows) as advance:
        for rows in batches:
            advance(len(rows), failed=sum(isinstance(row, ErrorRow) for row in rows))


def format_name(format: Format | None) -> OutputFormat | None:
    """Return the format by the name that `recognizer.results` knows."""
    return format.value if format else None
