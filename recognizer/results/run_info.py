"""`OUTPUT.run.json`: what made a file of results, and whether another run may continue it."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from memory.durable import replacing
from memory.errors import printable
from recognizer.results.errors import REMEDY, ResumeRefused
from recognizer.results.sink import RunCounts

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
RUN_INFO_SCHEMA = 1
_SECRET = re.compile(r"(?i)(key|token|secret|password|credential)")
_ABSENT = "(not set)"
_MOST_CHANGES = 5  # settings in one message
_DIGEST = "memory.digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """Description of a run by its caller.

    Attributes:
        command: the command line; values of options that name a key, token, secret or password are masked.
        model: name and ``fingerprint`` of the encoder; the fingerprint must be the same on resume.
        memory: path, version, size, ``digest`` and ``index`` of the memory; the last two must be the same on
            resume.
        settings: JSON values on which the rows depend; each must be the same on resume.
        device: the device of the encoder.
        input_root: the folder that the keys are relative to.
        category_ids: id, name and group of the categories that a file of boxes numbers; a name that the memory does
            not have is without a group.
        image_ids: id and path of the images that a file of boxes numbers.
    """

    command: Sequence[str]
    model: Mapping[str, Any]
    memory: Mapping[str, Any]
    settings: Mapping[str, Any]
    device: str
    input_root: str
    category_ids: Sequence[tuple[int | str, str, str | None]] = ()
    image_ids: Sequence[tuple[int | str, str]] = ()

    def info(self, *, output: str, format: str, count: int) -> RunInfo:
        """Return the info of a run that begins: name and format of its output, and number of rows."""
        return RunInfo(
            output=output,
            format=format,
            command=tuple(self.command),
            model=self.model,
            memory=self.memory,
            settings=self.settings,
            device=self.device,
            input_root=self.input_root,
            category_ids=self.category_ids,
            image_ids=self.image_ids,
            count=count,
        )


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Look up installed versions.

    Args:
        packages: names of distributions.

    Returns:
        Version by name, also of ``python`` and ``platform``; packages that are not installed are left out.
    """
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def utc_now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The content of `run.json`.

    Attributes:
        output: file name of the results.
        format: jsonl, csv or parquet.
        state: `running` until every row is written.
        command: command line of the latest run.
        model: as in `RunSetup`.
        memory: as in `RunSetup`.
        settings: as in `RunSetup`.
        device: as in `RunSetup`.
        input_root: as in `RunSetup`.
        category_ids: as in `RunSetup`.
        image_ids: as in `RunSetup`.
        count: number of rows.
        versions: versions of the installed packages.
        started: start of the first run, ISO 8601 in UTC.
        finished: end of the last run, None before.
        resumed: how often the run was resumed.
        counts: number of rows by status, filled at the end.
        errors: number of rows with status error, by code, filled at the end.
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
    category_ids: Sequence[tuple[int | str, str, str | None]] = ()
    image_ids: Sequence[tuple[int | str, str]] = ()
    count: int
    versions: Mapping[str, str] = field(default_factory=package_versions)
    started: str = field(default_factory=utc_now)
    finished: str | None = None
    resumed: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    schema: int = RUN_INFO_SCHEMA

    def identity(self, memory_fields: Iterable[str] = ("digest", "index")) -> dict[str, Any]:
        """Return the settings that must not change on resume, as flat names and plain JSON values.

        Args:
            memory_fields: what identifies the memory.
        """
        identity = {
            "format": self.format,
            "model.fingerprint": self.model.get("fingerprint"),
            **{f"memory.{name}": self.memory.get(name) for name in memory_fields},
            **_flatten("", self.settings),
        }
        plain: dict[str, Any] = json.loads(json.dumps(identity, default=str))
        return plain


_FIELDS = [each.name for each in fields(RunInfo)]


def read_run_info(path: Path) -> RunInfo | None:
    """Read a `run.json`.

    Returns:
        Its content; None if the file is missing or is not a `run.json` of this version.
    """
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] != RUN_INFO_SCHEMA:
            return None
        return RunInfo(**{name: content[name] for name in _FIELDS if name in content})  # earlier releases had more
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_run_info(path: Path, info: RunInfo) -> None:
    """Write a `run.json` atomically.

    Raises:
        WriteFailed: the disk refuses.
    """
    content = {**asdict(info), "command": mask_secrets(info.command)}
    text = json.dumps(content, ensure_ascii=False, indent=2, default=str)
    with replacing(path) as draft:
        draft.write_bytes(text.encode("utf-8", "replace") + b"\n")


def _short(value: object) -> str:
    return printable(repr(value), 100)


def require_same_settings(earlier: RunInfo, now: RunInfo, output: Path) -> None:
    """Refuse to continue results that were made under other settings.

    Raises:
        ResumeRefused: a setting differs; the message names each one, with both values where people can read them.
    """
    # A setting that an earlier release did not know counts as null, its default.
    # Earlier releases did not write the digest of the memory; for their runs the rest must be the same.
    fields = ("digest", "index") if "digest" in earlier.memory else tuple(earlier.memory)
    before, after = earlier.identity(fields), now.identity(fields)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    names.sort(key=lambda name: name not in before or name not in after)  # the values that changed first
    if names:
        changes = [
            "the memory holds other rows (memory.digest)"  # two hashes would tell nobody anything
            if name == _DIGEST
            else f"{name}: was {_short(before.get(name, _ABSENT))}, is {_short(after.get(name, _ABSENT))}"
            for name in names[:_MOST_CHANGES]
        ]
        if len(names) > _MOST_CHANGES:
            changes.append(f"and {len(names) - _MOST_CHANGES} more")
        raise ResumeRefused(
            f"{output} was made under other settings: {'; '.join(changes)}. Use the earlier settings, {REMEDY}"
        )


def finish_run_info(info: RunInfo, counts: RunCounts) -> RunInfo:
    """Return the info of a run whose rows are all written."""
    by_status = {"ok": counts.ok, "error": counts.failed}
    errors = dict(sorted(counts.errors.items()))
    return replace(info, state="finished", finished=utc_now(), counts=by_status, errors=errors)


def mask_secrets(command: Sequence[str]) -> list[str]:
    """Mask the values of options whose names suggest a secret.

    Args:
        command: the words of a command line.

    Returns:
        The words, with ``***`` for each such value.
    """
    masked: list[str] = []
    value_follows = False
    for word in command:
        name, has_value, _ = word.partition("=")
        secret = name.startswith("-") and _SECRET.search(name) is not None
        masked.append(
            "***" if value_follows and not word.startswith("-") else f"{name}=***" if secret and has_value else word
        )
        value_follows = secret and not has_value
    return masked


def _flatten(prefix: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(f"{prefix}{name}.", value)
        else:
            flat[f"{prefix}{name}"] = value
    return flat
