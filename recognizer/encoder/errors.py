"""What can go wrong when an encoder is made.

EncoderError
└── EncoderUnavailable
"""


class EncoderError(Exception):
    """An encoder was asked for something it cannot be or do."""


class EncoderUnavailable(EncoderError):
    """A file the encoder needs is not here and could not be fetched; the message says which and how to get it."""
