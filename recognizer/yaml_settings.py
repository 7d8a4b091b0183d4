"""Settings from a YAML file and `a.b=c` overrides, validated by a pydantic model; unknown keys are errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from recognizer.errors import RecognizerError

Model = TypeVar("Model", bound=BaseModel)


class SettingsError(RecognizerError):
    """A setting is unknown or has a bad value, or its file cannot be read."""


def load_yaml_settings(
    model: type[Model],
    config: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    base: Mapping[str, Any] | None = None,
    upgrade: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> Model:
    """Load settings: defaults of a model, then a base mapping, a YAML file and overrides; later ones win.

    Args:
        model: defines the settings, their defaults and bounds.
        config: a YAML file with the model's sections, or None.
        overrides: strings `section.key=value`; the value is read as YAML (`true`, `0.3`, `[JPEG, PNG]`).
        base: settings that override only the defaults; sections that the model does not have are ignored.
        upgrade: renames settings of older versions in the file and in each override, before they are merged.

    Raises:
        SettingsError: an unknown key, a bad value or an unreadable file; the message says which, and what is valid.
    """
    merged = {section: values for section, values in (base or {}).items() if section in model.model_fields}
    if config is not None:
        merged = _merge(merged, upgrade(_read_yaml(config, model)))
    for override in overrides:
        merged = _merge(merged, upgrade(_parse_override(override)))
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(_explain(error, model, config)) from error


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _read_yaml(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"cannot read the config {path}: {error}") from error
    if not isinstance(loaded, dict | None):
        sections = " and ".join(f"`{name}:`" for name in list(model.model_fields)[:2])
        raise SettingsError(f"{path} must contain sections such as {sections}, not a {type(loaded).__name__}")
    return loaded or {}


def _parse_override(override: str) -> dict[str, Any]:
    import yaml

    path, separator, value = override.partition("=")
    if not separator or not path:
        raise SettingsError(f"--set {override!r} is not of the form section.key=value, such as run.top_k=10")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {override!r}: the value is not YAML: {error}") from error
    for key in reversed(path.split(".")):
        nested = {key: nested}
    return dict(nested)


def _explain(error: ValidationError, model: type[BaseModel], config: Path | None) -> str:
    where = f" (config {config})" if config else ""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(_section(model, problem["loc"][:-1]).model_fields)
            lines.append(f"unknown setting `{key}`; known here: {known}")
        elif problem["type"] == "missing":
            lines.append(f"setting `{key}` is required")
        else:
            lines.append(f"setting `{key}` = {problem['input']!r}: {problem['msg']}")
    return f"bad settings{where}: " + "; ".join(lines)


def _section(model: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel]:
    """Return the model at a path of keys; list indices and names of union members in the path are skipped."""
    for part in place:
        field = model.model_fields.get(str(part))
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return model
