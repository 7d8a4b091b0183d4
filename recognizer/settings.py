"""Every setting of a run, with its default, unit and bounds. Knows YAML and `a.b=c` overrides; unknown keys are errors.

Precedence, last one wins: the defaults here, what the memory carries, the `--config` file, `--set` overrides, flags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recognizer.errors import RecognizerError
from recognizer.images.limits import ImageLimits


class SettingsError(RecognizerError):
    """A setting is unknown, has a bad value, or its file cannot be read."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScoreSettings(_Section):
    """The weights of the additive score and what surrounds it (see `recognizer.score`).

    The five weights are non-negative and sum to 1. Defaults were chosen on the development fold of the stamps and of
    the clutter scenes: 0.4 looks at the whole image, 0.6 at its regions, shared alike by names and descriptions.
    """

    name: float = Field(default=0.2, ge=0, le=1, description="w_n: image against the category's name")
    description: float = Field(default=0.2, ge=0, le=1, description="w_d: image against the grounded descriptions")
    region: float = Field(default=0.3, ge=0, le=1, description="w_r: best region of each bare description")
    region_name: float = Field(default=0.3, ge=0, le=1, description="w_o: best region against the name")
    exemplar: float = Field(default=0.0, ge=0, le=1, description="w_x: image against the category's example images")
    region_threshold: float = Field(default=0.5, ge=0, le=1, description="regions of less weight are masked")
    exemplar_top: int = Field(default=3, ge=1, description="how many nearest exemplars of a category are averaged")
    center: bool = Field(default=False, description="subtract each text's mean similarity over a fixed reference set")
    temperature: float | None = Field(
        default=None, gt=0, description="of the confidence: softmax(score / temperature); null: the encoder's own"
    )
    calibrated: bool = Field(
        default=False, description="whether temperature and threshold were fitted on labelled images"
    )
    unknown_threshold: float | None = Field(
        default=None, ge=0, le=1, description="confidence below which an image is unknown"
    )

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Self:
        total = sum(self.weights())
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"the weights name, description, region, region_name and exemplar sum to {total:g}; they must sum to 1"
            )
        return self

    def weights(self) -> tuple[float, float, float, float, float]:
        """Return (name, description, region, region_name, exemplar)."""
        return self.name, self.description, self.region, self.region_name, self.exemplar

    def only(self, *terms: str) -> ScoreSettings:
        """Switch every other term off and share the weight among `terms` in their present proportions.

        Args:
            terms: names of weight fields; those that all have weight 0 share equally.
        """
        present = {term: float(getattr(self, term)) for term in terms}
        total = sum(present.values())
        shares = {term: value / total if total else 1 / len(present) for term, value in present.items()}
        off = dict.fromkeys(("name", "description", "region", "region_name", "exemplar"), 0.0)
        return self.model_copy(update=off | shares)


class RunSettings(_Section):
    """How a folder is run. `batch_size` is part of the results: it fixes which images share a forward pass."""

    top_k: int = Field(default=5, ge=1, description="candidates per image")
    batch_size: int = Field(default=32, ge=1, description="images per forward pass")
    workers: int = Field(default=0, ge=0, description="decoding threads; 0: one per core")
    evidence: int = Field(default=0, ge=0, description="pieces of evidence per candidate, largest first; 0: all")
    index: Literal["auto", "exact", "hnsw"] = Field(default="auto", description="auto: what the memory was built with")


class Settings(_Section):
    """All settings of `run`, `eval` and `why`."""

    score: ScoreSettings = ScoreSettings()
    run: RunSettings = RunSettings()
    images: ImageLimits = ImageLimits()


def load_settings(
    config: Path | None = None, overrides: Sequence[str] = (), *, base: Mapping[str, Any] | None = None
) -> Settings:
    """Merge defaults, a base mapping, a YAML file and `a.b=c` overrides into validated settings.

    Args:
        config: a YAML file with the sections `score`, `run` and `images`, or None.
        overrides: strings `section.key=value`; the value is read as YAML (`true`, `0.3`, `[JPEG, PNG]`).
        base: settings that a memory carries, the weakest after the defaults; sections of other parts are passed over.

    Raises:
        SettingsError: an unknown key, a bad value, an unreadable file; the message names file or override and remedy.
    """
    carried = {section: values for section, values in (base or {}).items() if section in Settings.model_fields}
    merged = _merge(Settings().model_dump(), carried)
    if config is not None:
        merged = _merge(merged, _read_yaml(config))
    for override in overrides:
        merged = _merge(merged, _parse_override(override))
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(_explain(error, config)) from error


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"cannot read the config {path}: {error}") from error
    if not isinstance(loaded, dict | None):
        raise SettingsError(f"{path} must hold sections such as `score:` and `run:`, not a {type(loaded).__name__}")
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


def _explain(error: ValidationError, config: Path | None) -> str:
    where = f" (config {config})" if config else ""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            section = Settings().model_dump()
            for part in problem["loc"][:-1]:
                section = section.get(str(part), {})
            lines.append(f"unknown setting `{key}`; known here: {', '.join(section)}")
        else:
            lines.append(f"setting `{key}` = {problem['input']!r}: {problem['msg']}")
    return f"bad settings{where}: " + "; ".join(lines)
