import os

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional

from training.distributed import RankRows, all_reduce_sum, rank, world_size
from training.losses import (
    Descriptions,
    box_loss,
    hash_texts,
    image_text_contrastive,
    image_text_sigmoid,
    region_description_contrastive,
    region_description_sigmoid,
    region_weight_loss,
    total_loss,
)
from training.matcher import match


class TinyModel(nn.Module):
    """Stands for the encoder: maps what is in a batch to embeddings, boxes and weights."""

    def __init__(self):
        super().__init__()
        self.image, self.text, self.region = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(8, 6)
        self.box, self.weight = nn.Linear(8, 4), nn.Linear(8, 1)
        self.log_scale, self.bias = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(-1.0))

    def forward(self, batch):
        queries = batch["queries"]
        matches = match(self.box(queries).sigmoid(), batch["boxes"], batch["mask"])
        descriptions = Descriptions(
            functional.normalize(self.text(batch["descriptions"]), dim=-1),
            batch["description_ids"],
            batch["description_box"],
        )
        images, texts, regions = (
            functional.normalize(layer(values), dim=-1)
            for layer, values in (
                (self.image, queries.mean(1)),
                (self.text, batch["captions"]),
                (self.region, queries),
            )
        )
        contrastive = {
            **image_text_contrastive(images, texts, batch["caption_ids"], self.log_scale),
            **region_description_contrastive(regions, matches, descriptions, self.log_scale),
            **box_loss(self.box(queries).sigmoid(), batch["boxes"], batch["mask"], matches),
            **region_weight_loss(self.weight(queries)[..., 0], matches),
        }
        sigmoid = {
            **image_text_sigmoid(images, texts, batch["caption_ids"], self.log_scale, self.bias),
            **region_description_sigmoid(regions, matches, descriptions, self.log_scale, self.bias),
        }
        weights = {"image_text": 1.0, "region_description": 0.7, "box_l1": 2.0, "box_giou": 1.5, "region_weight": 0.5}
        return total_loss(contrastive, weights) + total_loss(sigmoid, {"image_text": 0.3, "region_description": 0.2})


def whole_batch():
    """Seven images; the last three, which are rank 1's, have all their texts in common with the others or no boxes."""
    generator = torch.Generator().manual_seed(0)
    words = {text: torch.randn(8, generator=generator) for text in ("wing", "tail", "beak", "eye")}
    placed = [(0, 0, "wing"), (0, 1, "tail"), (0, 1, "eye"), (2, 0, "wing"), (2, 1, "beak"), (3, 0, "eye")]
    placed += [(4, 0, "wing"), (4, 0, "tail"), (4, 1, "wing")]
    captions = ["a", "b", "a", "c", "b", "d", "a"]
    vectors = {caption: torch.randn(8, generator=generator) for caption in "abcd"}
    return {
        "queries": torch.randn(7, 5, 8, generator=generator),
        "boxes": torch.rand(7, 3, 4, generator=generator),
        "mask": torch.arange(3) < torch.tensor([2, 0, 3, 1, 2, 0, 0])[:, None],
        "captions": torch.stack([vectors[caption] for caption in captions]),
        "caption_ids": hash_texts(captions),
        "descriptions": torch.stack([words[text] for *_, text in placed]),
        "description_ids": hash_texts([text for *_, text in placed]),
        "description_box": torch.tensor([place[:2] for place in placed]),
    }


def part_of(batch, start, stop, slots):
    """Images start to stop with their boxes in the given number of slots."""
    image = batch["description_box"][:, 0]
    ours = (image >= start) & (image < stop)
    part = {name: batch[name][ours] for name in ("descriptions", "description_ids", "description_box")}
    part["description_box"] = part["description_box"] - torch.tensor([start, 0])
    part |= {name: batch[name][start:stop] for name in ("queries", "captions", "caption_ids")}
    return part | {name: batch[name][start:stop, :slots] for name in ("boxes", "mask")}


def gradients(model, batch):
    loss = model(batch)
    loss.backward()
    return {"loss": loss.detach(), **{name: value.grad for name, value in model.named_parameters()}}


SPLITS = (4, 5)  # after 5 the second rank has no boxes and no descriptions


def train_on_one_of_two_ranks(place, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=place, world_size=2)
    assert (rank(), world_size()) == (place, 2)
    for split in SPLITS:
        torch.manual_seed(0)
        model = nn.parallel.DistributedDataParallel(TinyModel())
        part = part_of(whole_batch(), 0, split, 3) if place == 0 else part_of(whole_batch(), split, 7, 2)
        found = gradients(model, part)
        found["loss"] = all_reduce_sum(found["loss"]) / world_size()
        torch.save(found, f"{folder}/{split}-{place}.pt")
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)  # torch's threads now and then abort a process that ends by tearing down the interpreter


def test_two_ranks_give_the_gradients_of_one_process_with_the_whole_batch(tmp_path):
    torch.manual_seed(0)
    expected = gradients(TinyModel(), whole_batch())
    multiprocessing.spawn(train_on_one_of_two_ranks, (str(tmp_path),), nprocs=2)
    for file in (f"{split}-{place}.pt" for split in SPLITS for place in range(2)):
        found = torch.load(tmp_path / file, weights_only=True)
        named = {name.removeprefix("module."): value for name, value in found.items()}
        assert named.keys() == expected.keys()
        assert float(named.pop("loss")) == pytest.approx(float(expected["loss"]), rel=1e-6)
        assert max(float((value - expected[name]).abs().max()) for name, value in named.items()) < 1e-6


def test_one_process_is_rank_zero_of_one():
    values = torch.arange(6.0).reshape(3, 2).requires_grad_()
    rows = RankRows.of(values)
    assert (rank(), world_size(), rows.total, rows.own) == (0, 1, 3, slice(0, 3))
    assert torch.equal(rows.gather(values), values)
    assert torch.equal(all_reduce_sum(values), values.detach())
    assert not all_reduce_sum(values).requires_grad
