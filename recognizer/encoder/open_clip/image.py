"""The image towers of open_clip models: its own ViTs and ResNets, those of timm, and any other without tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recognizer.encoder.device import autocast
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.towers import Network, TowerOutput


class ViTTower:
    """open_clip's `VisionTransformer`, with dense tokens from the value projection of its last attention.

    MaskCLIP (Zhou, Loy and Dai, ECCV 2022) reads a pooling attention without its queries and keys: every
    position keeps its own value, passed through the output projection, as if it attended to itself alone. In a
    ViT the class token gathers the image in the last block the same way, so a position's token is
    `out_proj(value(ln_1(x)))`, followed by the model's own final norm and projection. The paper's formula has
    neither residual nor MLP, and none is kept here: the residual carries the few large channels of the earlier
    blocks that make all positions look alike, and leaving it and the MLP out is what improved the localisation
    of CLIP ViTs in ClearCLIP (Lan et al., ECCV 2024).

    Models with an attention pooler (CoCa) gather the image there, so their tokens are the pooler's values.
    """

    region_source = "windows over the value projection of the last attention"
    full_weight_length = 0.0
    token_shape = None
    obeys_checkpointing = True

    def __init__(self, visual: Network, preprocessing: Preprocessing) -> None:
        """Take an `open_clip` VisionTransformer of at least two blocks, in its final precision."""
        self._visual = visual
        self._dtype = self._visual.conv1.weight.dtype
        self.preprocessing = preprocessing
        self.dim = int(self._visual.proj.shape[1]) if self._visual.proj is not None else int(self._visual.output_dim)
        self.network: nn.Module = visual

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Image vectors, and tokens in the joint space."""
        visual = self._visual
        before_last, pooler = -2, visual.attn_pool
        output = visual.forward_intermediates(
            pixels.to(self._dtype),
            indices=[before_last if pooler is None else -1],
            output_fmt="NLC",
        )
        tokens = output["image_intermediates"][0]
        if pooler is None:
            tokens = attention_values(visual.transformer.resblocks[-1], tokens)
        else:
            tokens = _pooler_values(pooler, tokens)
        tokens = visual.ln_post(tokens)
        if visual.proj is not None:
            tokens = tokens @ visual.proj
        image = output["image_features"].float()
        return TowerOutput(tokens.float(), self._grid_hw(pixels), image, image)

    def final_tokens(self, pixels: Tensor) -> TowerOutput:
        """All tokens after the final norm, class token first, as GRAIN reads them.

        With an attention pooler, whose norm comes after it, they are the tokens that the pooler reads.
        """
        output = self._visual.forward_intermediates(
            pixels.to(self._dtype),
            indices=[-1],
            normalize_intermediates=self._visual.attn_pool is None,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        tokens = [output["image_intermediates_prefix"][0], output["image_intermediates"][0]]
        return TowerOutput(torch.cat(tokens, dim=1), self._grid_hw(pixels))

    def _grid_hw(self, pixels: Tensor) -> tuple[int, int]:
        patch_height, patch_width = self._visual.patch_size
        return pixels.shape[2] // patch_height, pixels.shape[3] // patch_width

    def project(self, pooled: Tensor) -> Tensor:
        """The tokens are in the joint space already."""
        return pooled


class ResNetTower:
    """open_clip's `ModifiedResNet`, with dense tokens from the value projection of its attention pooling.

    This is MaskCLIP's own case: the value and output projections of the pooling, applied at every position of
    the last feature map as two 1x1 convolutions.
    """

    region_source = "windows over the value projection of the attention pooling"
    full_weight_length = 0.0
    token_shape = None
    obeys_checkpointing = True

    def __init__(self, visual: Network, preprocessing: Preprocessing, *, bf16: bool) -> None:
        """Take an open_clip ModifiedResNet with fp32 weights; `bf16` runs it under autocast."""
        self._visual = visual.to(memory_format=torch.channels_last)
        self._bf16 = bf16
        self.preprocessing = preprocessing
        self.dim = int(self._visual.attnpool.c_proj.out_features)
        self.network: nn.Module = self._visual

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Image vectors, and tokens in the joint space."""
        pool = self._visual.attnpool
        with autocast(pixels.device, enabled=self._bf16):
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            output = self._visual.forward_intermediates(pixels, indices=[4])
            grid = output["image_intermediates"][0].permute(0, 2, 3, 1)
            tokens = pool.c_proj(pool.v_proj(grid))
        image = output["image_features"].float()
        return TowerOutput(tokens.float().flatten(1, 2), (grid.shape[1], grid.shape[2]), image, image)

    def final_tokens(self, pixels: Tensor) -> TowerOutput:
        """The same: tokens in the joint space."""
        return self.forward(pixels)

    def project(self, pooled: Tensor) -> Tensor:
        """The tokens are in the joint space already."""
        return pooled


class TimmTower:
    """open_clip's `TimmModel`: the trunk runs once, its pooling head runs again on every window.

    The head sees a window as a feature map (or sequence) of one position that holds the window's mean. With
    average pooling that is the head over the window. With attention pooling (SigLIP) the softmax over one
    position is 1, so the head takes its value projection: MaskCLIP's reading, with uniform attention over the
    window.
    """

    region_source = "windows over the feature grid, through the pooling head"
    full_weight_length = 0.0
    token_shape = None
    obeys_checkpointing = True

    def __init__(self, visual: Network, preprocessing: Preprocessing, *, dim: int, bf16: bool) -> None:
        """Take an open_clip TimmModel.

        Args:
            visual: On its device, in its final precision; a convolutional trunk keeps fp32 weights.
            preprocessing: The model's own.
            dim: Dimensions of the joint space.
            bf16: Run under bf16 autocast, for convolutional trunks.

        Raises:
            ValueError: If the head does not accept a window of the trunk's features.
        """
        self._visual = visual
        self.network: nn.Module = visual
        self._parameter = next(visual.parameters())
        self._bf16 = bf16
        self._prefix = int(getattr(self._visual.trunk, "num_prefix_tokens", 0))
        self._channels_last_grid = getattr(self._visual.trunk, "output_fmt", "NCHW") == "NHWC"
        self._is_sequence = False
        self.preprocessing = preprocessing
        self.dim = dim
        self._probe()

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Image vectors, and the tokens before the pooling head; their mean stands for the whole image."""
        with autocast(pixels.device, enabled=self._bf16):
            features = self._visual.trunk.forward_features(pixels.to(self._parameter.dtype))
            image = self._visual.head(self._visual.trunk.forward_head(features))
        grid = self._grid(features).float()
        tokens = grid.flatten(1, 2)
        return TowerOutput(tokens, (grid.shape[1], grid.shape[2]), image.float(), tokens.mean(dim=1))

    def final_tokens(self, pixels: Tensor) -> TowerOutput:
        """The same: the tokens before the pooling head are the trunk's last."""
        return self.forward(pixels)

    def project(self, pooled: Tensor) -> Tensor:
        """(N, C) window means through the pooling head, to (N, D)."""
        if self._is_sequence:
            features = pooled[:, None].expand(-1, self._prefix + 1, -1)
        else:
            features = pooled[:, None, None] if self._channels_last_grid else pooled[:, :, None, None]
        with autocast(pooled.device, enabled=self._bf16):
            head = self._visual.trunk.forward_head(features.to(self._parameter.dtype))
            projected: Tensor = self._visual.head(head)
        return projected.float()

    def _grid(self, features: Tensor) -> Tensor:
        if features.ndim == 4:
            return features if self._channels_last_grid else features.permute(0, 2, 3, 1)
        height, width = self._visual.trunk.patch_embed.grid_size
        return features[:, self._prefix :].reshape(features.shape[0], height, width, -1)

    def _probe(self) -> None:
        """Find the layout of the features with one blank image, and check that the head accepts a window."""
        blank = torch.zeros(1, 3, *self.preprocessing.size_hw, device=self._parameter.device)
        try:
            with torch.inference_mode(), autocast(blank.device, enabled=self._bf16):
                features = self._visual.trunk.forward_features(blank.to(self._parameter.dtype))
                self._is_sequence = features.ndim == 3
                vector = self.project(self._grid(features).float().mean(dim=(1, 2)))
        except (RuntimeError, AttributeError, TypeError, IndexError, AssertionError) as error:
            raise ValueError(f"the head of {type(self._visual.trunk).__name__} accepts no windows: {error}") from error
        if vector.shape != (1, self.dim):
            raise ValueError(f"a window of {type(self._visual.trunk).__name__} has shape {tuple(vector.shape)}")


class PlainTower:
    """Any open_clip model, through its `encode_image` alone."""

    region_source = "windows cut out of the image and encoded one by one"
    full_weight_length = 0.0
    token_shape = None
    obeys_checkpointing = True

    def __init__(self, model: Network, preprocessing: Preprocessing, *, dim: int, bf16: bool) -> None:
        """Take an open_clip model on its device, in its final precision; `bf16` runs it under autocast."""
        self._model = model
        self.network: nn.Module = model.visual
        self._parameter = next(self._model.visual.parameters())
        self._bf16 = bf16
        self.preprocessing = preprocessing
        self.dim = dim

    def forward(self, pixels: Tensor) -> TowerOutput:
        """Image vectors, no tokens."""
        with autocast(pixels.device, enabled=self._bf16):
            image = self._model.encode_image(pixels.to(self._parameter.dtype))
        return TowerOutput(image.new_zeros(pixels.shape[0], 0, 0), (0, 0), image.float())

    def final_tokens(self, pixels: Tensor) -> TowerOutput:
        """The same: there are no tokens."""
        return self.forward(pixels)

    def project(self, pooled: Tensor) -> Tensor:
        """There are no tokens to project; returns its input."""
        return pooled


def attention_values(block: Network, x: Tensor) -> Tensor:
    """What a residual attention block's attention would add if every position attended to itself alone.

    Args:
        block: An open_clip `ResidualAttentionBlock` or `CustomResidualAttentionBlock`.
        x: (B, N, C) input of the block.

    Returns:
        (B, N, C) values after the block's output projection.
    """
    attention, width = block.attn, x.shape[-1]
    bias = attention.in_proj_bias
    values = F.linear(block.ln_1(x), attention.in_proj_weight[2 * width :], None if bias is None else bias[2 * width :])
    head_scale = getattr(attention, "head_scale", None)
    if head_scale is not None:
        values = (values.view(*x.shape[:2], attention.num_heads, -1) * head_scale.squeeze(-1)).flatten(-2)
    values = attention.out_proj(getattr(attention, "ln_inner", nn.Identity())(values))
    return block.ls_1(getattr(block, "ln_attn", nn.Identity())(values))  # type: ignore[no-any-return]


def _pooler_values(pooler: Network, tokens: Tensor) -> Tensor:
    attention = pooler.attn
    width = attention.embed_dim
    weight = attention.v_proj_weight if attention.in_proj_weight is None else attention.in_proj_weight[2 * width :]
    values = F.linear(pooler.ln_k(tokens), weight, attention.in_proj_bias[2 * width :])
    return attention.out_proj(values)  # type: ignore[no-any-return]
