"""The settings a memory carries: what it was built with, and what calibration fitted over that.

A memory is data, perhaps somebody else's, so it decides only what `FROM_MEMORY` lists; which model sees the images,
with which key, and which files are touched, the user alone decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memory import Memory
from memory.errors import printable, printable_path
from memory.manifest import MANIFEST_NAME
from memory.remote import CALIBRATION
from recognizer.plain_yaml import MOST_BYTES, PlainYamlError, load_plain_yaml
from recognizer.settings import TERMS, Settings, upgraded
from recognizer.yaml_settings import SettingsError, validated

FROM_MEMORY: Mapping[str, frozenset[str]] = {
    "score": frozenset(
        {*TERMS, "region_threshold", "largest_region", "temperature", "calibrated", "unknown_threshold"}
        | {"head", "head_beta", "head_ridge", "precision_curve", "roll_up_thresholds"},
    ),
    "rerank": frozenset({"when", "margin", "weight", "fitted_for"}),
    "unknown": frozenset({"rate", "threshold", "fitted_for"}),
}
"""By section, the settings that a memory may carry; any other is an error. None of them names a model, an address, a
key, a file, a device or a limit."""

_SEAL = b"# sha256 of the lines above: "


def sealed(text: str) -> str:
    """Append a last line with the hash of a calibration, by which `read_calibration` sees that nobody changed it."""
    return f"{text}{_SEAL.decode()}{hashlib.sha256(text.encode()).hexdigest()}\n"


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
        SettingsError: the file cannot be read, was changed, has another shape or a setting that a memory may not carry.
    """
    path = path or memory.directory / CALIBRATION
    try:
        content = load_plain_yaml(_unsealed(path))
    except FileNotFoundError:
        return None
    except (OSError, PlainYamlError) as error:
        raise SettingsError(f"cannot read the calibration {printable_path(path)}: {error}") from error
    basis = content.get("calibration") if isinstance(content, dict) else None
    if not isinstance(basis, dict):
        raise SettingsError(
            f"{printable_path(path)} has no section `calibration`; write it with `recognizer calibrate`, or delete it"
        )
    other = _difference(basis, memory)
    if other is None:
        fitted = {section: values for section, values in content.items() if section != "calibration"}
        return _from_memory(fitted, path, below=stored_settings(memory))
    if warn is not None:
        warn(f"{path} is ignored: it was fitted on {other}; run `recognizer calibrate` again.")
    return None


def calibration_problem(memory: Memory) -> str:
    """Return the sentence of `read_calibration` where a calibration is ignored, as after a change; else nothing."""
    said: list[str] = []
    read_calibration(memory, warn=said.append)
    return " ".join(said)


@contextmanager
def calibration_file(memory: Memory, path: Path | None) -> Iterator[Path]:
    """Yield the file to write a calibration into: the one that is named, or that of the memory.

    At an address on an object store, the memory gets the file afterwards.
    """
    if path is not None:
        yield path
        return
    with memory.writing() as directory:
        yield directory / CALIBRATION


def calibration_place(memory: Memory) -> str | Path:
    """Return where a memory's calibration is: a file, or an address."""
    place = memory.location
    return place / CALIBRATION if isinstance(place, Path) else f"{place}/{CALIBRATION}"


def _unsealed(path: Path) -> bytes:
    """Return a calibration as it was sealed.

    Raises:
        OSError: the file cannot be read.
        SettingsError: it was changed.
    """
    with path.open("rb") as stream:
        content, seal, digest = stream.read(2 * MOST_BYTES).rpartition(_SEAL)
    if not seal or digest != hashlib.sha256(content).hexdigest().encode() + b"\n":
        raise SettingsError(
            f"{printable_path(path)} is not as `recognizer calibrate` wrote it. Run `recognizer calibrate` again, or "
            "move the file out of the memory and give it with --config"
        )
    return content


def memory_identity(memory: Memory) -> dict[str, Any]:
    """Return what a calibration was fitted on: the memory's tables, its number of categories and its encoder."""
    return {
        "memory": memory.digest,
        "categories": memory.info().categories,
        "encoder": memory.encoder.fingerprint,
    }


def _difference(basis: dict[str, Any], memory: Memory) -> str | None:
    """Say what the file was fitted on instead of this memory; None where it is this one."""
    here = memory_identity(memory)
    if basis.get("encoder") != here["encoder"]:
        return f"another encoder than the memory's {memory.encoder.name!r}"
    if basis.get("memory") != here["memory"]:
        count = basis.get("categories")
        return (
            f"other tables ({count} categories; the memory now has {here['categories']}, at version {memory.version})"
        )
    return None


def stored_settings(memory: Memory) -> dict[str, Any]:
    """Return the settings that a memory was built with, by section.

    Raises:
        SettingsError: one has a bad value, or is not one that a memory may carry.
    """
    return _from_memory(memory.settings, memory.directory / MANIFEST_NAME)


def carried_settings(memory: Memory, *, warn: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Return the settings under `--config` and `--set`, by section.

    Args:
        memory: an opened one.
        warn: called with one sentence where a calibration was fitted on something else and is ignored.

    Raises:
        SettingsError: the file of the calibration cannot be read or was changed; a setting has a bad value, or is not
            one that a memory may carry.
    """
    return _merged(stored_settings(memory), read_calibration(memory, warn=warn) or {})


def _from_memory(
    source: Mapping[str, Any], file: Path, *, below: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the settings of one file of a memory under today's names, checked.

    Args:
        source: what the file holds.
        file: named in errors.
        below: settings that those of the file go over; both together must be valid.
    """
    shown = printable_path(file)
    try:
        sections = upgraded(source)
    except SettingsError as error:
        raise SettingsError(f"{shown}: {error}") from error
    if isinstance(sections.get("rerank"), str):  # `rerank: always` of a fine-grained memory
        sections["rerank"] = {"when": sections["rerank"]}
    for section, values in sections.items():
        if section in FROM_MEMORY and not isinstance(values, Mapping):
            raise SettingsError(f"{shown}: `{section}` must hold settings, not {printable(repr(values))}")
        keys = [f"{section}.{key}" for key in values] if isinstance(values, Mapping) else []
        foreign = set(keys) - {f"{section}.{key}" for key in FROM_MEMORY.get(section, ())}
        if foreign or section not in FROM_MEMORY:
            raise SettingsError(
                f"{shown} sets `{printable(min(foreign, default=str(section)))}`, which is not for a memory to decide. "
                "If you want it, give it with --config or --set; `recognizer export` and `recognizer build` make a "
                "memory without it"
            )
    validated(Settings, _merged(below or {}, sections), f" ({shown})")
    return sections


def _merged(below: Mapping[str, Mapping[str, Any]], above: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        section: {**below.get(section, {}), **above.get(section, {})}
        for section in FROM_MEMORY
        if section in below or section in above
    }
