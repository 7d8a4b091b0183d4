"""Settings from a YAML file and `a.b=c` overrides, validated by a pydantic model; unknown keys are errors.

Messages show foreign keys and values escaped and cut.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from memory.errors import printable, printable_path
from recognizer.errors import RecognizerError, reason_of
from recognizer.plain_yaml import DEEPEST, MOST_BYTES, PlainYamlError, load_plain_yaml

Model = TypeVar("Model", bound=BaseModel)
MOST_PROBLEMS = 5
"""So many problems of one source are named, the others counted."""


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
        base: settings that override only the defaults.
        upgrade: renames settings of older versions in the file and in each override, before they are merged.

    Raises:
        SettingsError: an unknown key, a bad value or an unreadable file; the message says which, and what is valid.
    """
    merged = dict(base or {})
    if config is not None:
        merged = _merge(merged, upgrade(_read_config(config, model)))
    for override in overrides:
        merged = _merge(merged, upgrade(_parse_override(override)))
    return validated(model, merged, f" (config {printable_path(config)})" if config else "")


def validated(model: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """Validate settings; other than pydantic alone, it does not take `true` for the number 1.

    Args:
        model: defines the settings.
        values: by section.
        source: of the values, for the message: ` (config FILE)`, or empty.

    Raises:
        SettingsError: an unknown key or a bad value; the message says which, and what is valid.
    """
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"bad settings{source}: {_explain(error, model)}") from error
    switches = list(_booleans_as_numbers(values, settings))
    if switches:
        raise SettingsError(f"bad settings{source}: {_listed(switches)}")
    return settings


def read_yaml(path: Path) -> Any:  # noqa: ANN401  any value of YAML
    """Read a file of plain YAML.

    Raises:
        OSError: the file cannot be read.
        PlainYamlError: it is not plain YAML.
    """
    with path.open("rb") as stream:
        return load_plain_yaml(stream.read(MOST_BYTES + 1))


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _read_config(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    try:
        loaded = read_yaml(path)
    except (OSError, PlainYamlError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"cannot read the config {printable_path(path)}: {reason}") from error
    if not isinstance(loaded, dict | None):
        sections = " and ".join(f"`{name}:`" for name in list(model.model_fields)[:2])
        raise SettingsError(
            f"{printable_path(path)} must contain sections such as {sections}, not a {type(loaded).__name__}"
        )
    return loaded or {}


def _parse_override(override: str) -> dict[str, Any]:
    path, separator, value = override.partition("=")
    if not separator or not path:
        raise SettingsError(f"--set {printable(override)!r} is not of the form section.key=value, such as run.top_k=10")
    try:
        nested: Any = load_plain_yaml(value)
    except PlainYamlError as error:
        raise SettingsError(f"--set {printable(override)!r}: the value is not plain YAML: {error}") from error
    keys = path.split(".")
    if len(keys) > DEEPEST:
        raise SettingsError(f"--set {printable(override)!r} has more than {DEEPEST} keys; no setting is so deep")
    for key in reversed(keys):
        nested = {key: nested}
    return dict(nested)


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    lines = []
    listed = set()  # sections whose settings a line has named
    for problem in error.errors():
        key = _key(problem["loc"])
        if problem["type"] == "extra_forbidden":
            section = problem["loc"][:-1]
            known = "" if section in listed else "; known here: " + ", ".join(_section(model, section).model_fields)
            listed.add(section)
            meant = _similar(model, problem["loc"])
            question = f"; did you mean `{meant}`?" if meant else ""
            lines.append(f"unknown setting `{key}`{known}{question}")
        elif problem["type"] == "missing":
            lines.append(f"setting `{key}` is required")
        elif problem["type"] == "value_error" and isinstance(problem["input"], Mapping):
            lines.append(f"`{key}`: {printable(str(problem['ctx']['error']), 400)}")  # a sentence of a section's own
        elif problem["type"] in ("tuple_type", "list_type"):
            lines.append(f"setting `{key}` = {printable(repr(problem['input']))}: give a list, in brackets: [a, b]")
        else:
            lines.append(f"setting `{key}` = {printable(repr(problem['input']))}: {printable(reason_of(problem), 200)}")
    return _listed(lines)


def _similar(model: type[BaseModel], place: Sequence[int | str]) -> str | None:
    """Return the setting that an unknown one is most like: of its section, or of that name in another section."""
    *above, name = (str(part)[:100] for part in place)  # keys may be of any length
    near = difflib.get_close_matches(name, _section(model, above).model_fields, n=1)
    if near:
        return ".".join([*above, *near])
    sections = {section: _section(model, [section]) for section in model.model_fields}
    return next((f"{section}.{name}" for section, inner in sections.items() if name in inner.model_fields), None)


def _listed(problems: Sequence[str]) -> str:
    more = len(problems) - MOST_PROBLEMS
    return "; ".join(problems[:MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def _key(place: Sequence[int | str]) -> str:
    return printable(".".join(map(str, place)))


def _booleans_as_numbers(value: object, setting: object, place: tuple[int | str, ...] = ()) -> Iterator[str]:
    """Yield a sentence for each boolean that validation has turned into a number."""
    if isinstance(value, bool) and isinstance(setting, int | float) and not isinstance(setting, bool):
        yield f"setting `{_key(place)}` = {value}: a number is needed, not true or false"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            found = setting.get(key) if isinstance(setting, Mapping) else getattr(setting, str(key), None)
            yield from _booleans_as_numbers(inner, found, (*place, key))
    elif isinstance(value, list) and isinstance(setting, list | tuple):
        for number, (inner, found) in enumerate(zip(value, setting, strict=False)):
            yield from _booleans_as_numbers(inner, found, (*place, number))


def _section(model: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel]:
    """Return the model at a path of keys; list indices and names of union members in the path are skipped."""
    for part in place:
        field = model.model_fields.get(str(part))
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return model
