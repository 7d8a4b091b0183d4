"""The rows that a GPU is measured by, on a processor with tiny sizes, so that they run where there is a GPU."""

import sys

import pytest
import torch

from tests.benchmarks import gpu

TINY = gpu.Sizes(
    device="cpu",
    model="ViT-S-32",
    images=4,
    side=320,
    batch=4,
    repeats=1,
    rows=500,
    categories=600,
    dim=16,
    training="ViT-S-32",
    training_batch=2,
    compiler="eager",
    message_mib=1,
)
QUICK = (gpu.flat_search, gpu.one_rank)


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.__name__)
def test_a_row_without_a_model_measures_something(row):
    assert all(what and figure for what, figure in row(TINY))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of libraries
@pytest.mark.parametrize(
    "row", [row for row in gpu.ROWS if row not in (*QUICK, gpu.cagra, gpu.out_of_memory)], ids=lambda row: row.__name__
)
def test_a_row_measures_something(row):
    figures = list(row(TINY))
    assert figures
    assert all(what and figure for what, figure in figures)


def test_a_row_that_fails_says_why_and_costs_no_other(monkeypatch):
    table = list(gpu.lines(TINY, (gpu.out_of_memory, gpu.one_rank)))
    assert table[2].startswith("| out of memory | failed: RuntimeError: processors encode four images at a time |")
    assert table[3].startswith("| gloo, one rank, 1 MiB")
    monkeypatch.setattr(gpu, "MOST_SECONDS", -1.0)
    assert list(gpu.lines(TINY, (gpu.one_rank,)))[2] == "| one rank | left out: -1 s are over | |"


def test_without_a_gpu_it_says_so_and_exits_with_2(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    assert "no GPU" in capsys.readouterr().err
