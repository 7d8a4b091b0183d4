"""The errors a user can meet, from the most general to the most particular.

    RecognizerError                 anything the command line prints as one sentence, without a traceback
      settings.SettingsError        an unknown setting, a bad value
      encoder.EncoderUnavailable    weights or a package that are not there, and how to get them
      images.ImageError             one image that could not be read; becomes a row, never ends a run
      results.*                     an output that cannot be written, a run that cannot be resumed
"""

from __future__ import annotations


class RecognizerError(Exception):
    """What is wrong, with which value, and what to do, in one message meant for the user."""
