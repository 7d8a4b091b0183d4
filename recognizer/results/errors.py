"""What can stop the writing of results.

ResultsError
├── OutputUnusable    the output cannot be written, or is of another kind than its name says
└── ResumeRefused     an output is there that this run must not continue; says which setting differs and what to do
"""

from __future__ import annotations

from recognizer.errors import RecognizerError


class ResultsError(RecognizerError):
    """Base of all errors about results."""


class OutputUnusable(ResultsError):
    """The output cannot be written; raised before any image is looked at, or when the disk fails meanwhile."""


class ResumeRefused(ResultsError):
    """There are results already, and they are not the beginning of what this run would write."""
