import os

import pytest
import torch
from torch import distributed, nn

from tests.training.ranks import on_two_ranks
from training.gradients import GradientBuckets


class Model(nn.Module):
    """Three layers in a row, a weight that no rank uses, and one that only rank 1 uses."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(3, 2)
        self.unused = nn.Parameter(torch.ones(7))
        self.extra = nn.Parameter(torch.full((2,), 0.3))

    def forward(self, rows, *, uses_extra):
        output = self.third(self.second(self.first(rows).tanh()).tanh())
        return (output * self.extra if uses_extra else output).square().sum()


def parts_of(rank, step):
    """Two batches of a rank."""
    return torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(10 * step + rank))


def mean_gradients(step, passes):
    """Of both ranks, one after the other in one process."""
    model = Model()
    for rank in range(2):
        for part in parts_of(rank, step)[:passes]:
            (model(part, uses_extra=rank == 1) / 2).backward()
    return {name: value.grad for name, value in model.named_parameters()}


def average(model, buckets, rank, step, passes):
    model.zero_grad()
    for part in parts_of(rank, step)[: passes - 1]:
        model(part, uses_extra=rank == 1).backward()
    with buckets.averaging():
        model(parts_of(rank, step)[passes - 1], uses_extra=rank == 1).backward()
    return {name: None if value.grad is None else value.grad.clone() for name, value in model.named_parameters()}


SIZES = (1, 60, 10**6)  # a bucket for every weight, several weights in each, one bucket
STEPS = ((0, 1), (1, 2), (2, 1))  # number and backward passes


def work_as_one_of_two_ranks(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    events, all_reduce = [], distributed.all_reduce

    def noted(values, **more):
        events.append(values.numel())
        return all_reduce(values, **more)

    distributed.all_reduce = noted
    results = {}
    for size in SIZES:
        model = Model()
        model.first.weight.register_hook(lambda _: events.append("nearly done"))
        layers = [value for layer in (model.third, model.second, model.first) for value in layer.parameters()]
        buckets = GradientBuckets([model.unused, model.extra, *layers], bucket_bytes=size)
        for step, passes in STEPS:
            events.clear()
            results[size, step] = average(model, buckets, rank, step, passes), list(events)
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)  # torch's threads now and then abort a process that ends by tearing down the interpreter


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    on_two_ranks(work_as_one_of_two_ranks, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("size", SIZES)
def test_gradients_are_the_mean_of_the_ranks_in_every_layout(results, size):
    for step, passes in STEPS:
        expected = mean_gradients(step, passes)
        assert expected["unused"] is None
        assert expected["extra"] is not None
        for result in results:
            averaged, _ = result[size, step]
            assert averaged["unused"] is None
            for name in expected.keys() - {"unused"}:
                torch.testing.assert_close(averaged[name], expected[name], rtol=1e-5, atol=1e-6)
        mine, theirs = (result[size, step][0] for result in results)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine.keys() - {"unused"})


def test_transfers_start_during_the_backward_pass(results):
    for result in results:
        # In the first step all wait for the weights in front, which not every rank uses; then these come last.
        early = []
        for step, passes in STEPS:
            _, events = result[1, step]
            ends = [place for place, event in enumerate(events) if event == "nearly done"]
            assert len(ends) == passes
            early.append(ends[-1] - (passes - 1))
        assert early[0] == 0
        assert min(early[1:]) >= 4  # both weights of the third and of the second layer


def test_one_process_has_no_buckets():
    model = Model()
    averaged = average(model, GradientBuckets([*model.parameters()]), 0, 0, 1)
    expected = Model()
    expected(parts_of(0, 0)[0], uses_extra=False).backward()
    for name, value in expected.named_parameters():
        assert (value.grad is None) == (averaged[name] is None)
        assert value.grad is None or torch.equal(value.grad, averaged[name])
