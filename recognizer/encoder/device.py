"""Choose the device and the number format to compute with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

from recognizer.encoder.errors import EncoderError

Precision = Literal["fp32", "bf16"]
_TYPES = ("cpu", "cuda", "mps")
_USE = "use auto, cpu, cuda, cuda:N or mps"
_MAX_CONVOLUTIONS_OF_A_TRANSFORMER = 4  # patch embedding, at most a small stem


def choose_device(device: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1`, `mps` into a device; `auto` is CUDA where there is a device, else the CPU.

    Raises:
        EncoderError: If the device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise EncoderError(f"device {device!r} is unknown; {_USE}") from error
    if chosen.type not in _TYPES or (chosen.type != "cuda" and chosen.index):
        raise EncoderError(f"device {device!r} is not supported; {_USE}")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise EncoderError(f"device {device!r} does not exist here: {torch.cuda.device_count()} CUDA devices found")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise EncoderError(f"device {device!r} does not exist here: it is the GPU of Apple's own processors; {_USE}")
    return chosen


def choose_precision(precision: str, device: torch.device) -> Precision:
    """Turn `auto`, `fp32` or `bf16` into a precision.

    `auto` is bf16 where the hardware multiplies bf16 natively (CPUs with AVX512-BF16 or AMX, GPUs from Ampere
    on) and fp32 elsewhere. bf16 by name is used everywhere, even where it is emulated and slow.

    Raises:
        EncoderError: If the name is unknown.
    """
    if precision != "auto":
        if precision not in get_args(Precision):
            raise EncoderError(f"precision {precision!r} is unknown; use auto, fp32 or bf16")
        return cast(Precision, precision)
    return "bf16" if _multiplies_bf16(device) else "fp32"


def onnx_hardware(device: str, precision: str) -> tuple[str, Precision]:
    """Return the device and the precision of an encoder from ONNX files: the CPU and fp32.

    Raises:
        EncoderError: Others are asked for.
    """
    if device not in ("auto", "cpu"):
        raise EncoderError(f"ONNX files run on the CPU, not on {device!r}; leave the device or their folder out")
    if precision not in ("auto", "fp32"):
        raise EncoderError(f"ONNX files compute in fp32, not in {precision!r}; leave the precision or their folder out")
    return "cpu", "fp32"


def is_convolutional(module: nn.Module) -> bool:
    """Tell whether a tower is convolutional; such towers compute bf16 under autocast and in channels-last order."""
    convolutions = sum(isinstance(part, nn.Conv2d) for part in module.modules())
    return convolutions > _MAX_CONVOLUTIONS_OF_A_TRANSFORMER


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        abilities = torch.cpu.get_capabilities()
        return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
    return False


def autocast(device: torch.device, *, enabled: bool) -> AbstractContextManager[Any]:
    """Return a context that computes in bf16 on `device` if enabled, or changes nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if enabled else nullcontext()
