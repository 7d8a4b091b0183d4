"""EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946; the Lite variant of TensorFlow) for inference.

timm has this network too, and brings torchvision and a compiler with it: three seconds of imports for a hundred lines.
Modules have the names and the order that they have in timm, so that the tensors of the published weights, which are in
that order, fall into place, and the fingerprint of the encoder is the one it always had.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

_STEM_CHANNELS, _HEAD_CHANNELS, _CLASSES = 32, 1280, 1000
# Blocks, kernel, stride of the first block, expansion of the channels, channels out.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STRIDE = 32
"""Pixels of the input along one side of a cell of the feature map."""
_EPSILON = 1e-3  # of TensorFlow's batch norms


class EfficientNetLite0(nn.Module):
    """(B, 3, H, W) pixels to a (B, 1280, H / 32, W / 32) feature map, whose mean `classifier` reads."""

    channels = _HEAD_CHANNELS

    def __init__(self) -> None:
        """Make it with random weights."""
        super().__init__()
        self.conv_stem = SameConv(3, _STEM_CHANNELS, 3, stride=2)
        self.bn1 = _norm(_STEM_CHANNELS)
        self.blocks = nn.Sequential()
        channels = _STEM_CHANNELS
        for count, kernel, stride, expansion, out in _STAGES:
            stage = nn.Sequential()
            for number in range(count):
                first_stride = stride if number == 0 else 1
                block = (
                    SeparableBlock(channels, out, kernel)
                    if expansion == 1
                    else InvertedResidual(channels, out, kernel, first_stride, expansion)
                )
                stage.append(block)
                channels = out
            self.blocks.append(stage)
        self.conv_head = SameConv(channels, _HEAD_CHANNELS, 1)
        self.bn2 = _norm(_HEAD_CHANNELS)
        self.classifier = nn.Linear(_HEAD_CHANNELS, _CLASSES)

    def start(self, pixels: Tensor) -> Tensor:
        """Run the stem and the first stage."""
        started: Tensor = self.blocks[0](_convolve(self.conv_stem, self.bn1, pixels, relu6=True))
        return started

    def finish(self, started: Tensor) -> Tensor:
        """Run the other stages and the head: from what `start` returns to the feature map."""
        return _convolve(self.conv_head, self.bn2, self.blocks[1:](started), relu6=True)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) pixels to (B, 1000) logits."""
        logits: Tensor = self.classifier(self.finish(self.start(pixels)).mean(dim=(2, 3)))
        return logits


class SeparableBlock(nn.Module):
    """A convolution per channel, and one across channels."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        """Make it with random weights."""
        super().__init__()
        self.conv_dw = SameConv(channels, channels, kernel, groups=channels)
        self.bn1 = _norm(channels)
        self.conv_pw = SameConv(channels, out, 1)
        self.bn2 = _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, out, H, W)."""
        return _convolve(self.conv_pw, self.bn2, _convolve(self.conv_dw, self.bn1, x, relu6=True))


class InvertedResidual(nn.Module):
    """Widen, convolve each channel, narrow; added to the input where the shapes agree."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        """Make it with random weights."""
        super().__init__()
        wide = channels * expansion
        self.conv_pw = SameConv(channels, wide, 1)
        self.bn1 = _norm(wide)
        self.conv_dw = SameConv(wide, wide, kernel, stride=stride, groups=wide)
        self.bn2 = _norm(wide)
        self.conv_pwl = SameConv(wide, out, 1)
        self.bn3 = _norm(out)
        self._adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, out, H / stride, W / stride)."""
        wide = _convolve(self.conv_pw, self.bn1, x, relu6=True)
        wide = _convolve(self.conv_dw, self.bn2, wide, relu6=True)
        narrow = _convolve(self.conv_pwl, self.bn3, wide)
        return narrow + x if self._adds else narrow


class SameConv(nn.Conv2d):
    """A convolution, padded as TensorFlow does: the odd pixel goes to the right and the bottom."""

    def __init__(self, channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        """Make it with random weights and without bias; with stride 1 the padding is the same on all sides."""
        symmetric = (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(channels, out, kernel, stride, symmetric, groups=groups, bias=False)
        self._packed: dict[tuple[torch.dtype, torch.Size], tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        return super().forward(self._pad(x))

    def run_fused(self, x: Tensor, *, relu6: bool) -> Tensor:
        """Do what `forward` and ReLU6 do, to the last bit, in one call; without gradients, on a CPU, with a bias.

        The feature map is written once instead of twice, and the weights of a frozen network are converted and put
        into the order of the kernel once.
        """
        if torch.is_autocast_enabled("cpu"):  # which does not know this call
            x = x.to(torch.get_autocast_dtype("cpu"))
        padding, weight = self.padding[0], self.weight
        if self.stride[0] > 1:
            if self.groups > 1 and not any(size % 2 for size in x.shape[2:]):
                # A row and a column of zeros before the kernel shift it as the padding of even sizes does. They cost
                # less than a padded copy of a wide feature map.
                padding, weight = self.kernel_size[0] // 2, F.pad(weight, (1, 0, 1, 0))
            else:
                x = self._pad(x)
        place = [padding] * 2, self.stride, self.dilation, self.groups
        packed = self._packed.get((x.dtype, x.shape))
        if packed is None:
            weight = weight.detach().to(x.dtype)
            weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *place, x.shape)
            assert self.bias is not None  # a batch norm was folded in
            packed = weight, self.bias.detach().to(x.dtype)
            if not self.weight.requires_grad:
                self._packed[x.dtype, x.shape] = packed
        activation = ("hardtanh", [0, 6], "") if relu6 else ("none", [], "")
        convolved: Tensor = torch.ops.mkldnn._convolution_pointwise(x, *packed, *place, *activation)
        return convolved

    def _load_from_state_dict(self, *args: Any) -> None:  # noqa: ANN401  as torch declares it
        self._packed.clear()
        super()._load_from_state_dict(*args)

    def _pad(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return x
        down, right = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
        return F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))


def _convolve(conv: SameConv, norm: nn.Module, x: Tensor, *, relu6: bool = False) -> Tensor:
    """Run a convolution, its batch norm unless that was folded, and ReLU6 where asked for."""
    if isinstance(norm, nn.Identity) and not torch.is_grad_enabled() and _fuses(x.device):
        return conv.run_fused(x, relu6=relu6)
    x = norm(conv(x))
    return F.relu6(x, inplace=True) if relu6 else x


def _fuses(device: torch.device) -> bool:
    """Tell whether oneDNN computes on this device, in every number format that is asked for."""
    if device.type != "cpu" or not torch._C._has_mkldnn:
        return False
    return not torch.is_autocast_enabled("cpu") or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every batch norm into the convolution before it, in place.

    A batch norm in eval mode is a fixed scale and shift per channel. Folded, the trunk reads and writes each feature
    map once less, a quarter of its time on a CPU.
    """
    children = list(module.named_children())
    for (_, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            # `fuse_conv_bn_eval` copies the module first, which takes 0.1 s for all of them.
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            setattr(module, norm_name, nn.Identity())
    for _, child in children:
        fold_batch_norms(child)
