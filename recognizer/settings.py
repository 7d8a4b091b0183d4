"""Every setting of a run, with its default, unit and bounds; unknown keys are errors.

Precedence, last one wins: the defaults here, what the memory carries, the `--config` file, `--set` overrides, flags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recognizer.images.limits import ImageLimits
from recognizer.rerank_settings import RerankSettings
from recognizer.yaml_settings import SettingsError as SettingsError
from recognizer.yaml_settings import load_yaml_settings


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
    rerank: RerankSettings = RerankSettings()
    calibration: dict[str, Any] | None = Field(
        default=None, exclude=True, description="what `calibrate` fitted the score on; for people, changes nothing"
    )


def load_settings(
    config: Path | None = None, overrides: Sequence[str] = (), *, base: Mapping[str, Any] | None = None
) -> Settings:
    """Merge defaults, a base mapping, a YAML file and `a.b=c` overrides into validated settings.

    Args:
        config: a YAML file with the sections `score`, `run`, `images` and `rerank`, or None.
        overrides: strings `section.key=value`; the value is read as YAML (`true`, `0.3`, `[JPEG, PNG]`).
        base: settings that a memory carries (see `carried_settings`), the weakest after the defaults; sections of
            other parts are passed over.

    Raises:
        SettingsError: an unknown key, a bad value, an unreadable file; the message names file or override and remedy.
    """
    return load_yaml_settings(Settings, config, overrides, base=base)
