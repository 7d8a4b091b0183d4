import os
from dataclasses import replace

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional

from recognizer.encoder.decoder import DecoderOutput
from tests.training.ranks import on_two_ranks
from training.config import LossConfig
from training.data.batch import Batch
from training.data.record import Rejects
from training.distributed import RankRows, RankSum, all_reduce_sum, average_over_ranks, gather_bytes, rank, world_size
from training.model import ModelOutput
from training.objective import compute_terms, total_loss


class TinyModel(nn.Module):
    """Stands for the encoder: maps what is in a batch to embeddings, boxes and weights."""

    def __init__(self):
        super().__init__()
        self.image, self.text, self.region = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(8, 6)
        self.box, self.weight = nn.Linear(8, 4), nn.Linear(8, 1)
        self.log_scale, self.bias = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(-1.0))

    def forward(self, queries, batch, vectors):
        def unit(layer, values):
            return functional.normalize(layer(values), dim=-1)

        decoded = DecoderOutput(
            unit(self.image, queries.mean(1)),
            unit(self.region, queries),
            self.box(queries).sigmoid(),
            self.weight(queries)[..., 0],
        )
        captions = unit(self.text, torch.stack([vectors[text] for text in batch.captions]))
        texts = torch.stack([vectors[text] for text in batch.descriptions]) if batch.descriptions else torch.zeros(0, 8)
        output = ModelOutput(decoded, captions, unit(self.text, texts))
        loss = torch.tensor(0.0)
        for bias, weights in ((None, INFONCE), (self.bias, SIGMOID)):
            for target in ("matched", "overlap"):
                config = LossConfig(region_target=target, queries_per_box=1 if bias is None else 2)
                terms = compute_terms(
                    output, batch, config, wanted=frozenset(weights), log_scale=self.log_scale, bias=bias
                )
                loss = loss + total_loss(terms, weights)
        return loss


INFONCE = {"image_text": 1.0, "region_description": 0.7, "box_l1": 2.0, "box_giou": 1.5, "region_weight": 0.5}
SIGMOID = {"image_text": 0.3, "region_description": 0.2, "region_weight": 0.4}


def whole_batch():
    """Seven images; the last three, which are rank 1's, have all their texts in common with the others or no boxes."""
    generator = torch.Generator().manual_seed(0)
    placed = [(0, 0, "wing"), (0, 1, "tail"), (0, 1, "eye"), (2, 0, "wing"), (2, 1, "beak"), (3, 0, "eye")]
    placed += [(4, 0, "wing"), (4, 0, "tail"), (4, 1, "wing")]
    captions = ["a", "b", "a", "c", "b", "d", "a"]
    vectors = {text: torch.randn(8, generator=generator) for text in ("wing", "tail", "beak", "eye", *"abcd")}
    batch = Batch(
        keys=captions,
        pixels=torch.zeros(7, 3, 0, 0),
        captions=captions,
        boxes_cxcywh=torch.rand(7, 3, 4, generator=generator),
        box_mask=torch.arange(3) < torch.tensor([2, 0, 3, 1, 2, 0, 0])[:, None],
        descriptions=[text for *_, text in placed],
        description_box=torch.tensor([place[:2] for place in placed]),
        rejects=Rejects(),
    )
    return torch.randn(7, 5, 8, generator=generator), batch, vectors


def part_of(whole, start, stop, slots):
    """Images start to stop with their boxes in the given number of slots."""
    queries, batch, vectors = whole
    part = batch.part(start, stop)
    part = replace(part, boxes_cxcywh=part.boxes_cxcywh[:, :slots], box_mask=part.box_mask[:, :slots])
    return queries[start:stop], part, vectors


def gradients(model, batch):
    loss = model(*batch)
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
    on_two_ranks(train_on_one_of_two_ranks, str(tmp_path))
    for file in (f"{split}-{place}.pt" for split in SPLITS for place in range(2)):
        found = torch.load(tmp_path / file, weights_only=True)
        named = {name.removeprefix("module."): value for name, value in found.items()}
        assert named.keys() == expected.keys()
        assert float(named.pop("loss")) == pytest.approx(float(expected["loss"]), rel=1e-6)
        assert max(float((value - expected[name]).abs().max()) for name, value in named.items()) < 1e-6


def test_one_process_is_rank_zero_of_one():
    values = torch.arange(6.0).reshape(3, 2).requires_grad_()
    places, others = RankRows.of_each(values, values[:1])
    rows = places.gather(values)
    assert (rank(), world_size(), places.total, others.total, places.start) == (0, 1, 3, 1, 0)
    assert torch.equal(rows.own, values)
    assert torch.equal(rows.all, values)
    assert torch.equal(all_reduce_sum(values), values.detach())
    assert not all_reduce_sum(values).requires_grad
    assert gather_bytes(b"one", torch.device("cpu")) == [b"one"]


def test_an_average_of_nothing_is_zero():
    two, nothing = RankSum(torch.tensor(6.0), torch.tensor(4)), RankSum(torch.tensor(0.0), torch.tensor(0))
    assert [float(average) for average in average_over_ranks([two, nothing])] == [1.5, 0]
