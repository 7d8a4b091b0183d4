"""All settings of a training run, with units and bounds. Unknown keys are errors.

Global batch of one optimiser step = batch_size x accumulate x number of processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from recognizer.encoder.decoder import DecoderSettings
from recognizer.encoder.device import Precision
from training.data.loader import DataSettings


def _spelled_out(value: object) -> object:
    return "off" if value is False else value  # YAML reads `off` as false


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderConfig(_Section):
    """The encoder that training starts from, as `Encoder.load` takes it."""

    model: str = Field(default="starter", description="starter, an open_clip name, or a .safetensors file of training.")
    pretrained: str | None = Field(default=None, description="open_clip tag, checkpoint file, or random.")


class TowerConfig(_Section):
    """How fast a tower learns."""

    lr_share: float = Field(default=0.0, ge=0, description="Its learning rate as a share of `optimizer.lr`; 0: frozen.")


class DataConfig(_Section):
    """The samples."""

    train: tuple[Path, ...] = Field(min_length=1, description="Manifests (.jsonl), shards (.tar), folders of shards.")
    workers: int = Field(default=0, ge=0, description="Processes that prepare batches; their number changes no batch.")
    cache: Path | None = Field(
        default=None, description="Folder for the tokens of a frozen image tower, computed once; null: none."
    )
    samples: DataSettings = Field(default=DataSettings(), description="How samples are filtered and augmented.")


class LossWeights(_Section):
    """The weight of each term in the loss; a term of weight 0 is not computed."""

    image_text: float = Field(default=1.0, ge=0, description="L_ic: image against caption.")
    region_description: float = Field(default=1.0, ge=0, description="L_rd: region against description.")
    box_l1: float = Field(default=5.0, ge=0, description="L1 distance of matched boxes.")
    box_giou: float = Field(default=2.0, ge=0, description="1 - GIoU of matched boxes.")
    region_weight: float = Field(default=1.0, ge=0, description="Binary cross-entropy of the region weights.")


class LossConfig(_Section):
    """The loss and the matching."""

    kind: Literal["infonce", "sigmoid", "checkpoint"] = Field(
        default="infonce",
        description="Kind of both contrastive terms; checkpoint: that of the encoder's checkpoint, which gives the "
        "first logit scale and bias.",
    )
    weights: LossWeights = Field(default=LossWeights(), description="Weights of the terms.")
    logit_scale: float = Field(
        default=1 / 0.07, gt=0, le=100, description="Initial value; learned, with infonce up to 100."
    )
    logit_bias: float = Field(default=-10.0, description="Initial value, for sigmoid; learned.")
    l1_cost: float = Field(default=5.0, ge=0, description="Weight of the L1 distance in the matching.")
    giou_cost: float = Field(default=2.0, ge=0, description="Weight of the GIoU in the matching.")
    region_target: Literal["matched", "overlap"] = Field(
        default="matched", description="Target of a region's weight: whether it is matched, or its best IoU with a box."
    )
    queries_per_box: int = Field(default=1, ge=1, description="Queries matched to each box, if there are enough.")


class OptimizerConfig(_Section):
    """AdamW."""

    lr: float = Field(default=1e-3, gt=0, description="Learning rate after the warm-up.")
    start_lr: float = Field(default=0.0, ge=0, description="Learning rate of the first warm-up step.")
    min_lr: float = Field(default=0.0, ge=0, description="Learning rate at the end of the cosine.")
    betas: tuple[float, float] = Field(default=(0.9, 0.98), description="Decay of the two moments.")
    eps: float = Field(default=1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(default=0.1, ge=0, description="Applied to weights of two and more dimensions.")
    clip_norm: float | None = Field(default=1.0, gt=0, description="Largest gradient norm; null: not clipped.")

    @model_validator(mode="after")
    def _lowest_last(self) -> Self:
        if max(self.start_lr, self.min_lr) > self.lr:
            raise ValueError(f"start_lr {self.start_lr} and min_lr {self.min_lr} must not exceed lr {self.lr}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {self.betas} must be from 0 to below 1")
        return self


class ScheduleConfig(_Section):
    """Linear warm-up, then a cosine down to the last step."""

    epochs: int = Field(default=10, ge=1, description="Passes over the data.")
    warmup_epochs: float = Field(default=0.0, ge=0, description="Length of the warm-up, unless set in steps.")
    warmup_steps: int | None = Field(default=None, ge=0, description="Length of the warm-up in optimiser steps.")


class EvaluationSet(_Section):
    """Labelled images for zero-shot classification."""

    name: str = Field(description="In logs and tables.")
    labels: Path = Field(description="Label file, as `recognizer build` reads it.")
    images: Path = Field(description="FOLDER/LABEL/IMAGE, or a CSV with the columns path and label.")


class EvaluationConfig(_Section):
    """When zero-shot accuracy is measured, and on what. It selects nothing: the result is always the last weights."""

    every_epochs: int = Field(default=1, ge=1, description="Epochs between two measurements of the development sets.")
    development: tuple[EvaluationSet, ...] = Field(default=(), description="Measured during training.")
    held_out: tuple[EvaluationSet, ...] = Field(default=(), description="Measured once, after the last epoch.")


class TrainConfig(_Section):
    """All settings of a run."""

    encoder: EncoderConfig = Field(default=EncoderConfig(), description="The encoder that training starts from.")
    decoder: DecoderSettings | None = Field(
        default=DecoderSettings(), description="The grounding decoder; null: the tower's image vectors and L_ic alone."
    )
    image_tower: TowerConfig = Field(default=TowerConfig(), description="Learning of the image tower.")
    text_tower: TowerConfig = Field(default=TowerConfig(), description="Learning of the text tower.")
    data: DataConfig = Field(description="The training data.")
    loss: LossConfig = Field(default=LossConfig(), description="The loss and the matching.")
    optimizer: OptimizerConfig = Field(default=OptimizerConfig(), description="AdamW.")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="Length and learning rate.")
    batch_size: int = Field(default=64, ge=1, description="Samples of one forward pass of one process.")
    accumulate: int = Field(
        default=1,
        ge=1,
        description="Forward passes per step; the gradient is that of one large batch of all their samples.",
    )
    amp: Annotated[Literal["off", "bf16", "fp16"], BeforeValidator(_spelled_out)] = Field(
        default="off", description="Number format of the forward pass; weights, boxes and losses stay float32."
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Largest decay per step of the averaged weights, which are then the result; null: no average.",
    )
    activation_checkpointing: bool = Field(
        default=False, description="Compute the trained towers' activations twice instead of storing them."
    )
    log_every: int = Field(default=10, ge=1, description="Steps between two lines of the log.")
    save_every_steps: int = Field(default=1000, ge=1, description="Steps between checkpoints within an epoch.")
    keep_checkpoints: int = Field(default=2, ge=1, description="Number of checkpoints kept; older ones are deleted.")
    evaluation: EvaluationConfig = Field(default=EvaluationConfig(), description="Zero-shot accuracy.")
    seed: int = Field(default=0, ge=0, description="Seed of every random choice.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.loss_weights():
            raise ValueError("every weight of the loss is 0; without a decoder only image_text counts")
        if self.decoder is None and not (self.image_tower.lr_share or self.text_tower.lr_share):
            raise ValueError("nothing is trained: set a decoder, or an lr_share above 0 for a tower")
        if self.data.cache is not None:
            augment = self.data.samples.augment
            if self.image_tower.lr_share or augment.crop_scale != (1.0, 1.0) or augment.flip:
                raise ValueError("data.cache needs image_tower.lr_share 0, augment.crop_scale [1, 1] and flip 0")
        return self

    def tower_precision(self) -> Precision:
        """Return the number format of the towers' weights: bf16 if both are frozen and `amp` is bf16, else fp32."""
        frozen = not (self.image_tower.lr_share or self.text_tower.lr_share)
        return "bf16" if frozen and self.amp == "bf16" else "fp32"

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of each term that is computed."""
        weights = self.loss.weights.model_dump() if self.decoder else {"image_text": self.loss.weights.image_text}
        return {name: float(weight) for name, weight in weights.items() if weight}
