"""What can go wrong when an encoder is made.

EncoderError
└── EncoderUnavailable
"""

from __future__ import annotations

from recognizer.errors import RecognizerError


class EncoderError(RecognizerError):
    """An encoder was asked for something it cannot be or do."""


class EncoderUnavailable(EncoderError):
    """A file the encoder needs is not here and could not be fetched; the message says which and how to get it."""
