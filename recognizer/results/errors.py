"""The errors of results.

ResultsError
├── OutputUnusable     the output cannot be written, or its name does not fit its format
├── ResumeRefused      an output exists that this run must not continue; names the difference and the remedy
├── ResultsUnreadable  a file holds no results, or only a part of them, or their images cannot be found
└── ResultsIncomplete  the rows are not one for each image; a defect of the program
"""

from __future__ import annotations

from recognizer.errors import RecognizerError

REMEDY = "use --overwrite to start over, or another --output"


class ResultsError(RecognizerError):
    """Base of all errors about results."""


class OutputUnusable(ResultsError):
    """The output cannot be written; raised before any image is read, or when the disk fails during the run."""


class ResumeRefused(ResultsError):
    """The output exists and is not the beginning of what this run would write."""


class ResultsUnreadable(ResultsError):
    """A file does not hold results that can be read, or the folder of its images is unknown."""


class ResultsIncomplete(ResultsError):
    """There is not exactly one row for each image of a batch or of a run."""
