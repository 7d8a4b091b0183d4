"""The settings file of a calibration: what a run picks up, and what it was fitted on, so that it stays there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from memory import Memory
from recognizer.results.atomic_file import replacing
from recognizer.yaml_settings import SettingsError

if TYPE_CHECKING:
    from recognizer.calibration.calibrate import Calibration

SETTINGS_FILE = "calibration.yaml"
"""Its name in the memory's directory."""

_COMMENT = """\
# Written by `recognizer calibrate`. A run reads it from the memory's directory, over the memory's own settings and
# under --config and --set. `calibration` says what it holds for; with another version of the memory it is passed over.
"""


def write_settings(calibration: Calibration, memory: Memory, path: Path) -> None:
    """Write the file whole or not at all.

    Args:
        calibration: the fitted settings and their figures.
        memory: the one they were fitted for.
        path: of the file.

    Raises:
        OutputUnusable: the disk refuses.
    """
    content: dict[str, Any] = {"calibration": _basis(calibration, memory), "score": calibration.score.model_dump()}
    if calibration.rerank is not None:
        content["rerank"] = {
            "margin": calibration.rerank.margin.margin,
            "weight": calibration.rerank.weight,
            "fitted_for": calibration.rerank.model,
        }
    text = _COMMENT + yaml.safe_dump(content, sort_keys=False)
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


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
        return {section: values for section, values in content.items() if section != "calibration"}
    if warn is not None:
        warn(f"{path} is passed over: it was fitted on {other}; run `recognizer calibrate` again.")
    return None


def _identity(memory: Memory) -> dict[str, Any]:
    return {
        "memory_version": memory.version,
        "categories": len(memory.vectors.categories),
        "encoder": memory.encoder.fingerprint,
    }


def _difference(basis: dict[str, Any], memory: Memory) -> str | None:
    """Say what the file was fitted on instead of this memory; None where it is this one."""
    here = _identity(memory)
    if basis.get("encoder") != here["encoder"]:
        return f"another encoder than the memory's {memory.encoder.name!r}"
    if basis.get("memory_version") != here["memory_version"]:
        return f"version {basis.get('memory_version')} of the memory, which is now at version {here['memory_version']}"
    if basis.get("categories") != here["categories"]:
        return f"a memory of {basis.get('categories')} categories, and this one has {here['categories']}"
    return None


def _basis(calibration: Calibration, memory: Memory) -> dict[str, Any]:
    from recognizer.calibration.report import figures

    fit, report = calibration.fit, calibration.report
    return _identity(memory) | {
        "images": {
            "fit": len(fit.items),
            "fit_unknown": fit.unknown,
            "report": len(report.items),
            "report_unknown": report.unknown,
        },
        "before": figures(calibration.before),
        "after": figures(calibration.after),
    }
