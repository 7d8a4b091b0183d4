"""The base class of all errors that are meant for the user; its subclasses stand beside the code that raises them.

The command line prints such an error as one sentence, without a traceback. An `ImageError` becomes a row instead and
never ends a run.
"""

from __future__ import annotations


class RecognizerError(Exception):
    """An error whose message tells the user what is wrong, with which value, and what to do."""
