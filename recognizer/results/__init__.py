"""Results of a run: rows, the journal they are written to, what made them, and tables made of them."""

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
