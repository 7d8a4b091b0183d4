"""What stops a training run, besides bad data (`training.data.source.DataError`) and bad settings (`SettingsError`)."""

from __future__ import annotations

from recognizer.errors import RecognizerError


class TrainingError(RecognizerError):
    """A run that cannot start or go on; the message says what, with which value, and what to do."""


class CheckpointError(TrainingError):
    """A checkpoint that belongs to another run: another config, encoder or architecture."""
