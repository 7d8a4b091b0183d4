"""Errors that stop a training run. Bad settings are `recognizer.yaml_settings.SettingsError`."""

from __future__ import annotations

from recognizer.errors import RecognizerError


class TrainingError(RecognizerError):
    """A run that cannot start or continue; the message says what is wrong, with which value, and what to do."""


class CheckpointError(TrainingError):
    """A checkpoint is damaged, or of another run: its config, encoder or architecture differs."""


class DataError(RecognizerError):
    """Training data that cannot be used at all; the message says what is wrong and why."""
