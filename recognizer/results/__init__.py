"""The results of a run: rows, the journal that makes a run resumable, what made them, and tables of them.

Start at `open_results`, which returns a `RowSink`; `ResultRow` and `ErrorRow` are the rows. This package must not know
how an image is recognised: no encoder, no memory, no MLLM.
"""

from recognizer.results.dataframe import to_dataframe
from recognizer.results.errors import OutputUnusable, ResultsError, ResultsIncomplete, ResumeRefused
from recognizer.results.ledger import ImageStamp, restamp_file, stamp_file
from recognizer.results.lines import encode_row
from recognizer.results.opening import check_output, is_finished, open_results
from recognizer.results.row import CandidateRow, ErrorRow, EvidenceRow, FoundLabel, ResultRow, Row
from recognizer.results.run_info import RunInfo, RunSetup, read_run_info
from recognizer.results.sink import BatchTiming, RowSink, RunCounts, todo_batches

__all__ = [
    "BatchTiming",
    "CandidateRow",
    "ErrorRow",
    "EvidenceRow",
    "FoundLabel",
    "ImageStamp",
    "OutputUnusable",
    "ResultRow",
    "ResultsError",
    "ResultsIncomplete",
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
    "restamp_file",
    "stamp_file",
    "to_dataframe",
    "todo_batches",
]
