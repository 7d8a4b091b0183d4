"""Errors of encoders.

EncoderError
└── EncoderUnavailable
"""

from __future__ import annotations

from recognizer.errors import RecognizerError


class EncoderError(RecognizerError):
    """The request does not fit the encoder, or the file is not one of this project; the message says what to change."""


class EncoderUnavailable(EncoderError):
    """A file of the encoder is missing and could not be fetched; the message names it and says how to get it."""
