"""Matching and box loss of a batch: the usual way against `training.matcher` and `training.box_losses`.

usage: python tests/benchmarks/matcher_and_losses.py [--batch 256] [--queries 5] [--boxes 5] [--dim 512] [--repeats 50]

The usual way is DETR's: one cost matrix of all queries of the batch with all boxes of the batch, of which the blocks on
the diagonal are used; scipy image by image; the box loss reads the diagonal of another matrix of all pairs. Both get
the same batch, in which every box slot is taken, and the losses are compared before they are timed. Times are medians;
the last row is what one step spends on matching and all terms, forward and backward.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional
from torchvision.ops import generalized_box_iou

from recognizer.console import table
from recognizer.encoder.boxes import cxcywh_to_xyxy
from training.box_losses import box_loss, region_weight_loss
from training.contrastive import image_text_contrastive, region_description_contrastive
from training.distributed import Rows, average_over_ranks
from training.matcher import Matches, match
from training.objective import gather_described

Pairs = list[tuple[Tensor, Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 256), ("queries", 5), ("boxes", 5), ("dim", 512), ("repeats", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    predicted, target = random_boxes(arguments.batch, arguments.queries), random_boxes(arguments.batch, arguments.boxes)
    predicted.requires_grad_()
    mask = torch.ones(target.shape[:2], dtype=torch.bool)
    usual_pairs, matches = usual_match(predicted, list(target)), match(predicted, target, mask)
    torch.testing.assert_close(
        usual_box_loss(predicted, list(target), usual_pairs), our_box_loss(predicted, target, mask, matches)
    )
    steps: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "matching": (lambda: usual_match(predicted, list(target)), lambda: match(predicted, target, mask)),
        "box loss": (
            lambda: usual_box_loss(predicted, list(target), usual_pairs),
            lambda: our_box_loss(predicted, target, mask, matches),
        ),
        "matching + box loss": (
            lambda: usual_box_loss(predicted, list(target), usual_match(predicted, list(target))),
            lambda: our_box_loss(predicted, target, mask, match(predicted, target, mask)),
        ),
    }
    usual, ours = steps["matching + box loss"]
    steps["the same, with backward"] = backward(usual), backward(ours)
    rows: list[list[str]] = []
    for name, (usual, ours) in steps.items():
        usual_ms, our_ms = milliseconds(usual, arguments.repeats), milliseconds(ours, arguments.repeats)
        rows.append([name, f"{usual_ms:.2f}", f"{our_ms:.2f}", f"{usual_ms / our_ms:.1f}"])
    every_term = backward(all_terms(predicted, target, mask, arguments.dim))
    rows.append(["all terms, with backward", "", f"{milliseconds(every_term, arguments.repeats):.2f}", ""])
    sizes = f"{arguments.batch} images, {arguments.queries} queries, {arguments.boxes} boxes"
    print(f"{sizes}, {torch.get_num_threads()} threads")
    print(table(["step", "usual, ms", "ours, ms", "ratio"], rows))


def random_boxes(batch: int, count: int) -> Tensor:
    return torch.rand(batch, count, 4) * torch.tensor([0.6, 0.6, 0.3, 0.3]) + torch.tensor([0.2, 0.2, 0.05, 0.05])


@torch.no_grad()
def usual_match(predicted: Tensor, targets: list[Tensor]) -> Pairs:
    every_target = torch.cat(targets)
    flat = predicted.flatten(0, 1)
    overlap = generalized_box_iou(cxcywh_to_xyxy(flat), cxcywh_to_xyxy(every_target))
    cost = 5 * torch.cdist(flat, every_target, p=1) - 2 * overlap
    blocks = cost.view(*predicted.shape[:2], -1).cpu().split([len(target) for target in targets], -1)
    solved = [linear_sum_assignment(block[image]) for image, block in enumerate(blocks)]
    return [(torch.as_tensor(queries), torch.as_tensor(boxes)) for queries, boxes in solved]


def usual_box_loss(predicted: Tensor, targets: list[Tensor], pairs: Pairs) -> Tensor:
    image = torch.cat([torch.full_like(queries, number) for number, (queries, _) in enumerate(pairs)])
    chosen = predicted[image, torch.cat([queries for queries, _ in pairs])]
    wanted = torch.cat([target[boxes] for target, (_, boxes) in zip(targets, pairs, strict=True)])
    overlap = torch.diag(generalized_box_iou(cxcywh_to_xyxy(chosen), cxcywh_to_xyxy(wanted)))
    l1 = functional.l1_loss(chosen, wanted, reduction="none").sum()
    return (l1 + (1 - overlap).sum()) / max(1, sum(len(target) for target in targets))


def our_box_loss(predicted: Tensor, target: Tensor, mask: Tensor, matches: Matches) -> Tensor:
    l1, overlap = average_over_ranks(box_loss(predicted, target, mask, matches))
    return l1 + overlap


def all_terms(predicted: Tensor, target: Tensor, mask: Tensor, dim: int) -> Callable[[], Tensor]:
    """Return a step of matching and the four losses on random embeddings; every box has a text of its own."""
    batch, queries, slots = *predicted.shape[:2], target.shape[1]

    def embeddings(*shape: int) -> Tensor:
        return functional.normalize(torch.randn(*shape, dim), dim=-1).requires_grad_()

    images, captions = embeddings(batch), embeddings(batch)
    regions, texts = embeddings(batch, queries), embeddings(batch * slots)
    text_ids, text_boxes = torch.arange(batch * slots), mask.nonzero()
    logits, log_scale = torch.randn(batch, queries, requires_grad=True), torch.tensor(2.66, requires_grad=True)

    def step() -> Tensor:
        matches = match(predicted, target, mask)
        described = gather_described(regions, matches, texts, text_ids, text_boxes)
        whole = [Rows.of_one_rank(rows) for rows in (images, captions, torch.arange(batch))]
        shares = [
            *image_text_contrastive(*whole, log_scale),
            *region_description_contrastive(described, log_scale),
            *box_loss(predicted, target, mask, matches),
            region_weight_loss(logits, matches),
        ]
        return torch.stack(average_over_ranks(shares)).sum()

    return step


def backward(step: Callable[[], Any]) -> Callable[[], None]:
    return lambda: step().backward()


def milliseconds(step: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(repeats + 3):
        started = time.perf_counter()
        step()
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken[3:])


if __name__ == "__main__":
    main()
