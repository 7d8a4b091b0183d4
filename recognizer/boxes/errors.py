"""The error of a file of boxes."""

from recognizer.errors import RecognizerError


class BoxFileError(RecognizerError):
    """A file of boxes cannot be read; the message says what was expected."""
