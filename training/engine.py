"""One optimiser step: forward, loss, backward over all ranks and parts of the batch, update."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.config import TrainConfig
from training.data.batch import Batch
from training.distributed import RandomState, all_reduce_sum, world_size
from training.errors import TrainingError
from training.gradients import GradientBuckets
from training.model import GroundedModel, ModelOutput
from training.objective import Terms, compute_terms, total_loss


class Ema:
    """An exponential moving average: after every step, average = d * average + (1 - d) * weights.

    After t steps d is min(decay, (1 + t) / (10 + t)), so that a short run is not an average of its random start.

    Attributes:
        average: by the names of the weights, float32; starts as a copy of them.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        """Start from the weights as they are."""
        self.average = {name: value.detach().clone() for name, value in weights.items()}
        self._weights, self._decay = weights, decay

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Add the weights after `steps` steps to the average."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        for name, value in self._weights.items():
            self.average[name].lerp_(value, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Use the average as the weights inside a `with` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._weights.items():
            weights = value.detach().clone()
            value.copy_(self.average[name])
            self.average[name].copy_(weights)


def make_optimizer(model: GroundedModel, config: TrainConfig) -> torch.optim.AdamW:
    """Make AdamW with one group for each share of the learning rate and each weight decay.

    Norms, biases, the logit scale and all other parameters of fewer than two dimensions are not decayed. The learning
    rate of a step is multiplied by a group's `lr_share`.
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
    settings = config.optimizer
    # Fused: one pass over the weights; and with fp16 the device decides whether a step is left out, not the host.
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)


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


# The order in which a backward pass reaches the parts of a model, by the first word of a weight's name. The loss's own
# weights share a bucket with the decoder's: alone in one, its transfer could start before those of the loss's gathers.
_BACKWARD_ORDER = ("log_scale", "bias", "decoder", "image", "text")


def _in_backward_order(weights: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
    names = list(weights)[::-1]  # a part's last layer first
    names.sort(key=lambda name: _BACKWARD_ORDER.index(name.split(".")[0]))
    return [weights[name] for name in names]


_AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_KEYS_SHOWN = 8  # samples named in an error message


@dataclass(frozen=True, slots=True)
class Step:
    """The report of one step, for the batch of all ranks.

    Attributes:
        terms: the terms of the loss, and their weighted sum as `loss`.
        lr: learning rate.
        grad_norm: before clipping; not finite where fp16 overflowed and the step was skipped.
        logit_scale: after the step.
    """

    terms: dict[str, float]
    lr: float
    grad_norm: float
    logit_scale: float


class Engine:
    """Takes optimiser steps.

    Attributes:
        steps: taken so far.
        optimizer: AdamW over the trained weights.
        scaler: of the gradients; active with fp16 only.
        ema: None without an average.
    """

    def __init__(
        self, model: GroundedModel, config: TrainConfig, device: torch.device, *, steps_per_epoch: int
    ) -> None:
        """Prepare the first step; the learning rate depends on `steps_per_epoch`."""
        self.steps = 0
        self.optimizer = make_optimizer(model, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.amp == "fp16")
        self.ema = None if config.ema is None else Ema(model.trained, config.ema)
        self._model, self._config, self._device = model, config, device
        self._steps_per_epoch = steps_per_epoch
        self._weights = config.loss_weights()
        self._gradients = GradientBuckets(_in_backward_order(model.trained))

    def step(self, batch: Batch) -> Step:
        """Take one step on a batch: `accumulate` parts of `batch_size` samples on this rank.

        Waits for the device once, when everything is under way.

        Raises:
            TrainingError: loss or gradient is not finite; the message gives the terms and the samples. The weights are
                lost then: continue from a checkpoint.
        """
        lr = learning_rate(self.steps, self._config, self._steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_share"]
        terms = self.backward(batch)
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._model.limit_scale()
        if self.ema is not None:
            self.ema.update(self.steps + 1)
        logit_scale = self._model.log_scale.detach().exp()
        *values, grad_norm, scale = torch.stack([*terms.values(), norm, logit_scale]).tolist()
        step = Step(dict(zip(terms, values, strict=True)), lr, grad_norm, scale)
        self._check(step, batch)
        self.steps += 1
        return step

    def backward(self, batch: Batch) -> Terms:
        """Compute every weight's gradient over the whole batch, averaged over the ranks (times the scaler's scale).

        Returns:
            The terms and their weighted sum, `loss`, of the batch of all ranks; without gradient.
        """
        self.optimizer.zero_grad()
        terms = self._backward_whole(batch) if self._config.accumulate == 1 else self._backward_in_parts(batch)
        means = all_reduce_sum(torch.stack(list(terms.values()))) / world_size()
        return dict(zip(terms, means, strict=True))

    def _backward_whole(self, batch: Batch) -> Terms:
        batch = batch.to(self._device)
        terms = self._loss(self._forward(batch), batch)
        with self._gradients.averaging():
            torch.autograd.backward(self.scaler.scale(terms["loss"]))
        return terms

    def _backward_in_parts(self, batch: Batch) -> Terms:
        """Compute the same gradient with the memory of one part and two forward passes (Gao et al. 2021, GradCache).

        The loss is computed once, over the outputs of all parts. Its gradient with respect to these outputs is then
        propagated back through the parts one after the other, each with the random numbers of its first pass.
        """
        size = self._config.batch_size
        parts = [batch.part(start, start + size) for start in range(0, len(batch), size)]
        states, outputs = [], []
        for part in parts:
            states.append(RandomState.now(self._device))
            with torch.no_grad():
                outputs.append(self._forward(part.to(self._device)))
        counts = [[len(tensor) for tensor in part.tensors()] for part in outputs]
        joined = ModelOutput.concatenate(outputs).map(lambda tensor: tensor.detach().requires_grad_())
        terms = self._loss(joined, batch.without_images().to(self._device))
        torch.autograd.backward(self.scaler.scale(terms["loss"]))
        columns = [
            torch.split(_gradient(tensor), list(lengths))
            for tensor, lengths in zip(joined.tensors(), zip(*counts, strict=True), strict=True)
        ]
        for part, state, gradients in zip(parts, states, zip(*columns, strict=True), strict=True):
            state.restore(self._device)
            again = self._forward(part.to(self._device)).tensors()
            trained = [
                (tensor, gradient) for tensor, gradient in zip(again, gradients, strict=True) if tensor.requires_grad
            ]
            with self._gradients.averaging() if part is parts[-1] else nullcontext():
                torch.autograd.backward([tensor for tensor, _ in trained], [gradient for _, gradient in trained])
        return terms

    def _forward(self, batch: Batch) -> ModelOutput:
        with self._autocast():
            output: ModelOutput = self._model(batch)
            return output

    def _loss(self, output: ModelOutput, batch: Batch) -> Terms:
        terms = compute_terms(
            output,
            batch,
            self._config.loss,
            wanted=frozenset(self._weights),
            log_scale=self._model.log_scale,
            bias=self._model.bias,
        )
        return terms | {"loss": total_loss(terms, self._weights)}

    def _clip(self) -> Tensor:
        limit = self._config.optimizer.clip_norm
        parameters = list(self._model.trained.values())
        return torch.nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)

    def _check(self, step: Step, batch: Batch) -> None:
        values = {"loss": step.terms["loss"]}
        if (
            not self.scaler.is_enabled()
        ):  # an fp16 gradient may overflow: the scaler leaves the step out and scales less
            values["gradient"] = step.grad_norm
        for what, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"the {what} is not finite after step {self.steps}: {_described(step.terms, batch)}"
                )

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        amp = self._config.amp
        with torch.autocast(self._device.type, dtype=_AMP_TYPES.get(amp), enabled=amp != "off"):
            yield


def _gradient(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def _described(terms: dict[str, float], batch: Batch) -> str:
    named = ", ".join(f"{name} {value:g}" for name, value in terms.items())
    more = f" and {len(batch) - _KEYS_SHOWN} more" if len(batch) > _KEYS_SHOWN else ""
    return f"{named}; samples of this process: {', '.join(batch.keys[:_KEYS_SHOWN])}{more}"
