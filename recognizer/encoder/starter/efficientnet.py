"""EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946; the Lite variant of TensorFlow) for inference.

timm has this network too, and brings torchvision and a compiler with it: three seconds of imports for a hundred lines.
Modules have the names and the order that they have in timm, so that the tensors of the published weights, which are in
that order, fall into place, and the fingerprint of the encoder is the one it always had.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

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
        stem = F.relu6(self.bn1(self.conv_stem(pixels)), inplace=True)
        started: Tensor = self.blocks[0](stem)
        return started

    def finish(self, started: Tensor) -> Tensor:
        """Run the other stages and the head: from what `start` returns to the feature map."""
        return F.relu6(self.bn2(self.conv_head(self.blocks[1:](started))), inplace=True)

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
        x = F.relu6(self.bn1(self.conv_dw(x)), inplace=True)
        projected: Tensor = self.bn2(self.conv_pw(x))
        return projected


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
        wide = F.relu6(self.bn1(self.conv_pw(x)), inplace=True)
        wide = F.relu6(self.bn2(self.conv_dw(wide)), inplace=True)
        narrow: Tensor = self.bn3(self.conv_pwl(wide))
        return narrow + x if self._adds else narrow


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow does: the odd pixel goes to the right and the bottom."""

    def __init__(self, channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        """Make it with random weights; with stride 1 the padding is the same on all sides."""
        symmetric = (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(channels, out, kernel, stride, symmetric, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            down, right = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:])
            x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return super().forward(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


def fold_batch_norms(module: nn.Module) -> None:
    """Fold every batch norm into the convolution before it, in place.

    A batch norm in eval mode is a fixed scale and shift per channel. Folded, the trunk reads and writes each feature
    map once less, a quarter of its time on a CPU.
    """
    children = list(module.named_children())
    for (conv_name, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())
    for _, child in children:
        fold_batch_norms(child)
