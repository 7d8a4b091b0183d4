"""The settings a memory carries: what it was built with, and what calibration fitted over that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from memory import Memory
from recognizer.settings import upgraded
from recognizer.yaml_settings import SettingsError

SETTINGS_FILE = "calibration.yaml"
"""Its name in the memory's directory."""


def read_calibration(
    memory: Memory, path: Path | None = None, *, warn: Callable[[str], None] | None = None
) -> dict[str, Any] | None:
    """Read the settings that were fitted for a memory.

    Args:
        memory: the one that is about to be used.
        path: of the file; by default in the memory's directory.
        warn: called with one sentence where there is a file that was fitted for something else.

    Returns:
        The sections `score` and, where it was fitted, `rerank`; None where there is no file or it does not belong here.

    Raises:
        SettingsError: the file cannot be read or has another shape.
    """
    path = path or memory.directory / SETTINGS_FILE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"cannot read the calibration {path}: {error}") from error
    basis = content.get("calibration") if isinstance(content, dict) else None
    if not isinstance(basis, dict):
        raise SettingsError(f"{path} has no section `calibration`; write it with `recognizer calibrate`, or delete it")
    other = _difference(basis, memory)
    if other is None:
        return upgraded({section: values for section, values in content.items() if section != "calibration"})
    if warn is not None:
        warn(f"{path} is ignored: it was fitted on {other}; run `recognizer calibrate` again.")
    return None


def memory_identity(memory: Memory) -> dict[str, Any]:
    """Return what a calibration was fitted on: the memory's version, its number of categories and its encoder."""
    return {
        "memory_version": memory.version,
        "categories": len(memory.vectors.categories),
        "encoder": memory.encoder.fingerprint,
    }


def _difference(basis: dict[str, Any], memory: Memory) -> str | None:
    """Say what the file was fitted on instead of this memory; None where it is this one."""
    here = memory_identity(memory)
    if basis.get("encoder") != here["encoder"]:
        return f"another encoder than the memory's {memory.encoder.name!r}"
    if basis.get("memory_version") != here["memory_version"]:
        return f"version {basis.get('memory_version')} of the memory, which is now at version {here['memory_version']}"
    if basis.get("categories") != here["categories"]:
        return f"a memory of {basis.get('categories')} categories, and this one has {here['categories']}"
    return None


def carried_settings(memory: Memory, *, warn: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Return the settings under `--config` and `--set`, by section.

    Args:
        memory: an opened one.
        warn: called with one sentence where a calibration was fitted on something else and is ignored.

    Raises:
        SettingsError: the file of the calibration cannot be read.
    """
    carried = upgraded(memory.settings)
    if isinstance(carried.get("rerank"), str):  # `rerank: always` of a fine-grained memory
        carried["rerank"] = {"when": carried["rerank"]}
    for section, values in (read_calibration(memory, warn=warn) or {}).items():
        carried[section] = {**carried.get(section, {}), **values}
    return carried
