"""A training step against the bare forward and backward pass of the same model, in one process and on two gloo ranks.

usage: python tests/benchmarks/training_step.py [--batch 8] [--repeats 5] [--models starter ViT-S-32] [--ranks 1 2]
       python tests/benchmarks/training_step.py --models towers --ranks 1
       python tests/benchmarks/training_step.py --device cuda --batch 128 --models GRAIN --ranks 1

Every rank has one thread and `--batch` samples. "Bare" adds up the model's outputs and propagates back, without losses
and without other ranks; "gradients" has the losses and the average over the ranks; "step" has the optimiser, too. The
three take turns; times are medians, wall clock beside processor time of rank 0. The starter trains its decoder on a
frozen tower; the ViT trains decoder and both towers; GRAIN is `configs/train/grain_vitb16_cc3m.yaml`. "towers" is the
ViT without a decoder, so its loss is CLIP's, and the step that a user of open_clip writes for the same towers, pictures
and captions takes turns with it. On a GPU every rank has one of its own, and the peak is of its memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import torch
import yaml
from torch import distributed, multiprocessing

from recognizer.console import table
from recognizer.encoder.encoder import load_parts, make_spec
from tests.benchmarks.comparison import Comparison, add_json_option, hand_over, in_turns
from training.config import TrainConfig
from training.data.batch import Batch
from training.data.record import Rejects
from training.distributed import rank
from training.engine import Engine
from training.model import GroundedModel

CONFIGS = Path(__file__).parents[2] / "configs/train"
BOXES = 2
OPEN_CLIP = "open_clip"
AMP_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
ANCHORS = {"layers": 2, "width": 192, "heads": 6, "feedforward": 384, "dropout": 0.0, "positions": True}
VIT = {
    "encoder": {"model": "ViT-S-32", "pretrained": "random"},
    "image_tower": {"lr_share": 1.0},
    "text_tower": {"lr_share": 1.0},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "starter": {
        "encoder": {"model": "starter"},
        "decoder": ANCHORS | {"anchors": {"divisions": 10, "sizes": [2, 4, 6, 10], "stride": 2}},  # as in starter.yaml
        "loss": {"weights": {"image_text": 0, "region_description": 0}},
    },
    "towers": VIT | {"decoder": None},
    "ViT-S-32": VIT | {"decoder": {"layers": 2, "width": 256, "heads": 8, "feedforward": 512, "dropout": 0.0}},
    "GRAIN": yaml.safe_load((CONFIGS / "grain_vitb16_cc3m.yaml").read_text()),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=list(SETTINGS), default=["starter", "ViT-S-32"])
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    add_json_option(parser)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models:
        for ranks in arguments.ranks:
            with tempfile.TemporaryDirectory() as folder:
                work = (ranks, Path(folder), name, arguments.batch, arguments.repeats, arguments.device)
                multiprocessing.spawn(measure, work, nprocs=ranks)
                rows += torch.load(Path(folder) / "rows")
    print(table(["model", "ranks", "what", "wall ms", "CPU ms", "wall / bare", "CPU / bare", "peak MiB"], rows))
    hand_over(arguments.json, list(comparisons(rows, arguments.batch)))


def comparisons(rows: list[list[str]], batch: int) -> Iterator[Comparison]:
    """Yield the steps of one process."""
    milliseconds = {(name, what): float(wall) for name, ranks, what, wall, *_ in rows if ranks == "1"}
    for (name, what), step in milliseconds.items():
        if what == "step":
            yield Comparison(
                f"training step, {name}, {batch} samples, one thread",
                "ms",
                step,
                milliseconds.get((name, OPEN_CLIP)),
                milliseconds[name, "bare"],
                peer_is="open_clip's step",
                bound_is="bare forward and backward",
            )


def measure(place: int, ranks: int, folder: Path, name: str, batch_size: int, repeats: int, kind: str) -> None:
    torch.set_num_threads(1)
    device = torch.device(kind, place) if kind == "cuda" else torch.device(kind)
    wait = torch.cuda.synchronize if kind == "cuda" else lambda: None
    if ranks > 1:
        distributed.init_process_group(
            "nccl" if kind == "cuda" else "gloo", init_method=f"file://{folder}/store", rank=place, world_size=ranks
        )
    config = TrainConfig.model_validate(SETTINGS[name] | {"data": {"train": ["none"]}, "batch_size": batch_size})
    torch.manual_seed(0)
    parts = load_parts(make_spec(config.encoder.model, config.encoder.pretrained), device=device, precision="fp32")
    model = GroundedModel(parts, config, device).train()
    batch = random_batch(batch_size, parts.image_tower.preprocessing.size_hw)
    if model.tokenize:  # as the processes that load data do
        texts = [*batch.captions, *batch.descriptions]
        batch = replace(batch, tokens=dict(zip(texts, model.tokenize(texts), strict=True)))
    engine = Engine(model, config, device, steps_per_epoch=1000)

    def bare() -> None:
        model.zero_grad()
        with torch.autocast(device.type, dtype=AMP_TYPES.get(config.amp), enabled=config.amp != "off"):
            outputs = model(batch.to(device)).tensors()
        torch.stack([part.sum() for part in outputs]).float().sum().backward()

    passes: dict[str, Callable[[], object]] = {
        "bare": bare,
        "gradients": lambda: engine.backward(batch),
        "step": lambda: engine.step(batch),
    }
    if config.decoder is None:
        passes[OPEN_CLIP] = open_clip_step(config, batch, device)
    times = in_turns(passes, repeats, wait=wait)
    if rank() == 0:
        on_gpu = torch.cuda.max_memory_allocated() / 2**20 if kind == "cuda" else None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 if on_gpu is None else on_gpu
        rows = [
            [name, str(ranks), what]
            + [f"{1000 * seconds:.0f}" for seconds in taken]
            + [f"{seconds / least:.2f}" for seconds, least in zip(taken, times["bare"], strict=True)]
            + [f"{peak:.0f}"]
            for what, taken in times.items()
        ]
        torch.save(rows, folder / "rows")
    if ranks > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def open_clip_step(config: TrainConfig, batch: Batch, device: torch.device) -> Callable[[], object]:
    """Return the contrastive step that a user of open_clip writes, on new towers of the same shape."""
    model = open_clip.create_model(config.encoder.model, device=device).train()
    tokens = open_clip.get_tokenizer(config.encoder.model)(batch.captions).to(device)
    loss_of = open_clip.ClipLoss()
    settings = config.optimizer
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (model.visual.image_mean, model.visual.image_std))

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=AMP_TYPES.get(config.amp), enabled=config.amp != "off"):
            pixels = (batch.pixels.float() / 255 - mean) / std
            loss = loss_of(*model(pixels.to(device), tokens))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)

    return step


def random_batch(size: int, size_hw: tuple[int, int]) -> Batch:
    """Return pictures of noise, each with a caption and two boxes that have a description each."""
    seen = range(size * rank(), size * (rank() + 1))
    return Batch(
        keys=[str(number) for number in seen],
        pixels=torch.randint(0, 256, (size, 3, *size_hw), dtype=torch.uint8),
        captions=[f"picture {number} of a red square" for number in seen],
        boxes_cxcywh=torch.rand(size, BOXES, 4) * 0.4 + 0.3,
        box_mask=torch.ones(size, BOXES, dtype=torch.bool),
        descriptions=[f"square {box} of picture {number}" for number in seen for box in range(BOXES)],
        description_box=torch.ones(size, BOXES).nonzero(),
        rejects=Rejects(),
    )


if __name__ == "__main__":
    main()
