"""One hash that tells two encoders apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def fingerprint(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash what an encoder computes with.

    Call it before weights are cast or folded, so that one encoder has one fingerprint in every precision.

    Args:
        description: Architecture, tokenizer and preprocessing as JSON values.
        tensors: The weights by name, in the format they were loaded in; their order does not matter.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
