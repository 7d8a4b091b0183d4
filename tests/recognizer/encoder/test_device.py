import pytest
import torch
from torch import nn

from recognizer.encoder.device import autocast, choose_device, choose_precision, is_convolutional
from recognizer.encoder.errors import EncoderError

CPU = torch.device("cpu")


def test_a_device_by_name_is_that_device():
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["abacus", "", "cuda:99", "cuda:-1", "mps:1", "cpu:3", "meta", "xpu"])
def test_a_device_that_does_not_exist_is_named(name):
    with pytest.raises(EncoderError, match=f"device '{name}'"):
        choose_device(name)


def test_mps_is_chosen_where_torch_has_it(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps") == torch.device("mps")
    assert choose_precision("auto", torch.device("mps")) == "fp32"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(EncoderError, match=r"'mps' does not exist here: .* use auto, cpu, cuda, cuda:N or mps"):
        choose_device("mps")


@pytest.mark.parametrize("abilities", [{}, {"avx512_bf16": True}, {"amx_bf16": True}])
def test_auto_is_bf16_where_the_cpu_multiplies_it(monkeypatch, abilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert choose_precision("auto", CPU) == ("bf16" if abilities else "fp32")
    assert choose_precision("bf16", CPU) == "bf16"
    with pytest.raises(EncoderError, match="fp8"):
        choose_precision("fp8", CPU)


def test_a_patch_embedding_does_not_make_a_convolutional_network():
    assert not is_convolutional(nn.Sequential(nn.Conv2d(3, 8, 8), nn.Linear(8, 8)))
    assert is_convolutional(nn.Sequential(*(nn.Conv2d(3, 3, 3) for _ in range(5))))


def test_autocast_computes_in_bf16_or_changes_nothing():
    rows = torch.ones(2, 2)
    for enabled, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with autocast(CPU, enabled=enabled):
            assert (rows @ rows).dtype == dtype
