"""What a memory carries of a run's settings: what it was built with, and what calibration fitted over that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memory import Memory
from recognizer.calibration.settings_file import read_calibration


def carried_settings(memory: Memory, *, warn: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Return the settings under `--config` and `--set`, by section.

    Args:
        memory: an opened one.
        warn: called with one sentence where a calibration was fitted on something else and is passed over.

    Raises:
        SettingsError: the file of the calibration cannot be read.
    """
    carried = {name: dict(value) if isinstance(value, dict) else value for name, value in memory.settings.items()}
    if isinstance(carried.get("rerank"), str):  # `rerank: always` of a fine-grained memory
        carried["rerank"] = {"when": carried["rerank"]}
    for section, values in (read_calibration(memory, warn=warn) or {}).items():
        carried[section] = {**carried.get(section, {}), **values}
    return carried
