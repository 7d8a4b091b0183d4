"""What made a file of results: `run.json` beside it."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from memory.durable import replacing
from recognizer.results.errors import ResumeRefused
from recognizer.results.journal import REMEDY

PACKAGES = (
    "recognizer",
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "transformers",
    "lancedb",
    "faiss-gpu",
    "faiss-cpu",
    "numpy",
    "pillow",
    "pyarrow",
)


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Look up installed versions.

    Args:
        packages: names of distributions.

    Returns:
        Version by name, with ``python`` and ``platform``; what is not installed is left out.
    """
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


RUN_INFO_SCHEMA = 1
_SECRET = re.compile(r"(?i)(key|token|secret|password|credential)")
_ABSENT = "(not set)"


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """What the caller knows of a run.

    Attributes:
        command: the command line; values of options that name a key, token, secret or password are masked.
        model: what is known of the encoder; its ``fingerprint`` must be the same on resume.
        memory: what is known of the memory; its ``version`` must be the same on resume.
        settings: JSON values that decide the rows; each must be the same on resume.
        device: where the encoder runs.
        input_root: the folder the keys are relative to.
    """

    command: Sequence[str]
    model: Mapping[str, Any]
    memory: Mapping[str, Any]
    settings: Mapping[str, Any]
    device: str
    input_root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The content of `run.json`.

    Attributes:
        output: file name of the results this belongs to.
        format: jsonl, csv or parquet.
        state: running until every row is written.
        command: command line of the latest run.
        model: see :class:`RunSetup`.
        memory: see :class:`RunSetup`.
        settings: see :class:`RunSetup`.
        device: see :class:`RunSetup`.
        input_root: see :class:`RunSetup`.
        count: number of images.
        keys_sha256: hex digest over all keys in order.
        batch_size: images in a batch.
        versions: versions of the packages at work.
        started: when the first run began, ISO 8601 in UTC.
        finished: when the last row was written, None before.
        resumed: how many times the run was taken up again.
        counts: rows by status, filled when finished.
        errors: rows with status error by code, filled when finished.
        schema: version of this layout.
    """

    output: str
    format: str
    state: Literal["running", "finished"] = "running"
    command: Sequence[str]
    model: Mapping[str, Any]
    memory: Mapping[str, Any]
    settings: Mapping[str, Any]
    device: str
    input_root: str
    count: int
    keys_sha256: str
    batch_size: int
    versions: Mapping[str, str] = field(default_factory=package_versions)
    started: str = field(default_factory=utc_now)
    finished: str | None = None
    resumed: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    schema: int = RUN_INFO_SCHEMA

    def identity(self) -> dict[str, Any]:
        """What has to stay the same from run to run, as flat names and plain JSON values."""
        identity = {
            "format": self.format,
            "batch_size": self.batch_size,
            "model.fingerprint": self.model.get("fingerprint"),
            "memory.version": self.memory.get("version"),
            **_flatten("", self.settings),
        }
        plain: dict[str, Any] = json.loads(json.dumps(identity, default=str))
        return plain


def read_run_info(path: Path) -> RunInfo | None:
    """Read a `run.json`.

    Returns:
        Its content; None where there is none, or the file is something else.
    """
    try:
        content = json.loads(path.read_bytes())
        return RunInfo(**content) if content["schema"] == RUN_INFO_SCHEMA else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_run_info(path: Path, info: RunInfo) -> None:
    """Write a `run.json` so that it is there whole or not at all.

    Raises:
        OutputUnusable: the disk refuses.
    """
    content = {**asdict(info), "command": mask_secrets(info.command)}
    text = json.dumps(content, ensure_ascii=False, indent=2, default=str)
    with replacing(path) as draft:
        draft.write_bytes(text.encode("utf-8", "replace") + b"\n")


def require_same_settings(earlier: RunInfo, now: RunInfo, output: Path) -> None:
    """Refuse to go on with results that other settings made.

    Raises:
        ResumeRefused: names each setting that differs, with both values.
    """
    before, after = earlier.identity(), now.identity()
    names = [name for name in {**before, **after} if before.get(name, _ABSENT) != after.get(name, _ABSENT)]
    if names:
        lines = [f"  {name}: was {before.get(name, _ABSENT)!r}, is {after.get(name, _ABSENT)!r}" for name in names]
        raise ResumeRefused(
            f"{output} was made under other settings:\n" + "\n".join(lines) + f"\nrun with the earlier ones, {REMEDY}"
        )


def finish_run_info(info: RunInfo, *, ok: int, errors: Mapping[str, int]) -> RunInfo:
    """The info of the same run once all rows are written."""
    counts = {"ok": ok, "error": sum(errors.values())}
    return replace(info, state="finished", finished=utc_now(), counts=counts, errors=dict(sorted(errors.items())))


def mask_secrets(command: Sequence[str]) -> list[str]:
    """Mask the values of options whose names speak of a secret.

    Args:
        command: the words of a command line.

    Returns:
        The words, with ``***`` for each such value.
    """
    masked: list[str] = []
    follows = False
    for word in command:
        name, has_value, _ = word.partition("=")
        secret = name.startswith("-") and _SECRET.search(name) is not None
        masked.append(
            "***" if follows and not word.startswith("-") else f"{name}=***" if secret and has_value else word
        )
        follows = secret and not has_value
    return masked


def _flatten(prefix: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(f"{prefix}{name}.", value)
        else:
            flat[f"{prefix}{name}"] = value
    return flat
