"""How `unknown` is decided."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class UnknownSettings(BaseModel):
    """The rule of `unknown`, and the threshold of the rule by negative labels."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    rule: Literal["auto", "confidence", "negatives"] = Field(
        default="auto",
        description="confidence: that of the label, by a calibrated threshold; negatives: the names against negative "
        "labels; auto: negatives in a memory that has them",
    )
    rate: float = Field(
        default=0.05, gt=0, lt=1, description="share of images of the categories that negatives may call unknown"
    )
    threshold: float | None = Field(
        default=None, ge=0, le=1, description="known score below which an image is unknown; null: by exemplars"
    )
    fitted_for: float | None = Field(
        default=None, gt=0, lt=1, description="rate that the threshold was fitted for; not used for another one"
    )

    @property
    def usable_threshold(self) -> float | None:
        """The threshold, unless it was fitted for another rate."""
        return self.threshold if self.fitted_for in (None, self.rate) else None

    def decisive(self) -> dict[str, Any]:
        """Return what decides the rows of a run, as JSON values: what differs from the defaults.

        Runs of earlier releases do not know these settings, and can be resumed.
        """
        return self.model_dump(mode="json", exclude_defaults=True)
