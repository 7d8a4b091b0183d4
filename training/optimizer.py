"""AdamW over what learns, and the learning rate of every step."""

from __future__ import annotations

import math

import torch
from torch import nn

from training.config import TrainConfig
from training.model import GroundedModel


def make_optimizer(model: GroundedModel, config: TrainConfig) -> torch.optim.AdamW:
    """Make AdamW with one group for each share of the learning rate and each weight decay.

    Norms, biases, the logit scale and whatever else has fewer than two dimensions are not decayed. A group's `lr_share`
    is what the learning rate of a step is multiplied by.
    """
    shares = {"image": config.image_tower.lr_share, "text": config.text_tower.lr_share}
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.trained.items():
        decay = config.optimizer.weight_decay if parameter.ndim > 1 else 0.0
        members.setdefault((shares.get(name.split(".")[0], 1.0), decay), []).append(parameter)
    groups = [
        {"params": parameters, "lr_share": share, "weight_decay": decay}
        for (share, decay), parameters in members.items()
    ]
    return torch.optim.AdamW(groups, lr=config.optimizer.lr, betas=config.optimizer.betas, eps=config.optimizer.eps)


def learning_rate(step: int, config: TrainConfig, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, counted from 0: a linear warm-up, then a cosine to the last step.

    The step after the warm-up has `lr`, the last one of the run is one step before `min_lr`.
    """
    optimizer, schedule = config.optimizer, config.schedule
    total = schedule.epochs * steps_per_epoch
    warmup = schedule.warmup_steps
    if warmup is None:
        warmup = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return optimizer.start_lr + (optimizer.lr - optimizer.start_lr) * step / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return optimizer.min_lr + (optimizer.lr - optimizer.min_lr) * (1 + math.cos(math.pi * progress)) / 2
