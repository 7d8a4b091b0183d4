"""Settings of boxes: how much of their surroundings is shown, and which regions of an image count as objects."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class BoxSettings(BaseModel):
    """How boxes are cut out, and how the objects of `--boxes auto` are found.

    The first two are the two devices of RAR (arXiv 2403.13805), which does not say its values. All values here were
    chosen on the development fold of the clutter scenes (`tests/benchmarks/clutter_boxes.py`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    margin: float = Field(
        default=0.2,
        ge=0,
        le=4,
        description="context on each side of a tiny box, in its longer sides; a box as long as the image has none",
    )
    blur: float = Field(
        default=0.03, ge=0, le=1, description="standard deviation of the blur outside of the box, in sides of the crop"
    )
    region_overlap: float = Field(
        default=0.7, gt=0, le=1, description="overlap (IoU) from which a region of the whole image counts for a box"
    )
    least_confidence: float = Field(
        default=0.2,  # MegaDetector's own threshold for display; its files hold boxes from 0.005 on
        ge=0,
        le=1,
        description="MegaDetector and SpeciesNet: boxes of less confidence are left out",
    )
    least_weight: float = Field(
        default=0.3, ge=0, le=1, description="auto: a region of at least this weight is an object"
    )
    nms_overlap: float = Field(
        default=0.5, ge=0, le=1, description="auto: overlap (IoU) above which the weaker of two regions is dropped"
    )
    most: int = Field(default=10, ge=1, description="auto: most objects per image")
