"""The results of a run: rows, the journal that makes a run resumable, `run.json`, and tables made from the journal.

Start at `open_results`, which returns a `RowSink`; `ResultRow` and `ErrorRow` are the rows. This package must not know
how an image is recognised: no encoder, no memory, no MLLM.
"""

from recognizer.results.errors import OutputUnusable, ResultsError, ResumeRefused
from recognizer.results.row import CandidateRow, ErrorRow, EvidenceRow, ResultRow, Row, encode_row
from recognizer.results.run_info import RunInfo, RunSetup, read_run_info
from recognizer.results.sink import Batch, BatchTiming, RowSink, RunCounts
from recognizer.results.writer import check_output, is_finished, open_results

__all__ = [
    "Batch",
    "BatchTiming",
    "CandidateRow",
    "ErrorRow",
    "EvidenceRow",
    "OutputUnusable",
    "ResultRow",
    "ResultsError",
    "ResumeRefused",
    "Row",
    "RowSink",
    "RunCounts",
    "RunInfo",
    "RunSetup",
    "check_output",
    "encode_row",
    "is_finished",
    "open_results",
    "read_run_info",
]
