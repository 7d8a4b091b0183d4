"""The image towers of open_clip models that open_clip itself defines: ViTs and modified ResNets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recognizer.encoder.decoder import DecoderInput
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
    certain_length = 0.0

    def __init__(self, visual: Network, preprocessing: Preprocessing) -> None:
        """Take an `open_clip` VisionTransformer of at least two blocks, in its final precision."""
        self._visual = visual
        self._dtype = self._visual.conv1.weight.dtype
        self.preprocessing = preprocessing
        self.dim = int(self._visual.proj.shape[1]) if self._visual.proj is not None else int(self._visual.output_dim)
        self.network: nn.Module = visual

    def forward(self, pixels: Tensor) -> TowerOutput:
        """One vector per image and a (B, gh, gw, D) grid of tokens in the joint space."""
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
        return TowerOutput(output["image_features"].float(), tokens.float().unflatten(1, self._grid_hw(pixels)))

    def decoder_input(self, pixels: Tensor, *, dense: bool) -> DecoderInput:
        """Dense tokens in the joint space with the image vector, or all tokens after the final norm, class token first.

        The latter are GRAIN's, for which the pooling of the tower itself is not used. With an attention pooler, whose
        norm comes after it, they are the tokens that the pooler sees.
        """
        if dense:
            return joint_space_input(self.forward(pixels))
        output = self._visual.forward_intermediates(
            pixels.to(self._dtype),
            indices=[-1],
            normalize_intermediates=self._visual.attn_pool is None,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        tokens = [output["image_intermediates_prefix"][0], output["image_intermediates"][0]]
        return DecoderInput(torch.cat(tokens, dim=1), self._grid_hw(pixels))

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
    certain_length = 0.0

    def __init__(self, visual: Network, preprocessing: Preprocessing, *, bf16: bool) -> None:
        """Take an open_clip ModifiedResNet with fp32 weights; `bf16` runs it under autocast."""
        self._visual = visual.to(memory_format=torch.channels_last)
        self._bf16 = bf16
        self.preprocessing = preprocessing
        self.dim = int(self._visual.attnpool.c_proj.out_features)
        self.network: nn.Module = self._visual

    def forward(self, pixels: Tensor) -> TowerOutput:
        """One vector per image and a (B, gh, gw, D) grid of tokens in the joint space."""
        pool = self._visual.attnpool
        with autocast(pixels.device, enabled=self._bf16):
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            output = self._visual.forward_intermediates(pixels, indices=[4])
            grid = output["image_intermediates"][0].permute(0, 2, 3, 1)
            tokens = pool.c_proj(pool.v_proj(grid))
        return TowerOutput(output["image_features"].float(), tokens.float())

    def decoder_input(self, pixels: Tensor, *, dense: bool) -> DecoderInput:
        """The tokens in the joint space, in either case."""
        return joint_space_input(self.forward(pixels))

    def project(self, pooled: Tensor) -> Tensor:
        """The tokens are in the joint space already."""
        return pooled


def joint_space_input(output: TowerOutput) -> DecoderInput:
    """What a decoder gets from a tower whose tokens and image vectors are in the joint space already."""
    assert output.tokens is not None
    height, width = output.tokens.shape[1:3]
    return DecoderInput(output.tokens.flatten(1, 2), (height, width), output.image, output.image)


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


class PlainTower:
    """Any open_clip model, through its `encode_image` alone."""

    region_source = "windows cut out of the image and encoded one by one"
    certain_length = 0.0

    def __init__(self, model: Network, preprocessing: Preprocessing, *, dim: int, bf16: bool) -> None:
        """Take an open_clip model on its device, in its final precision; `bf16` runs it under autocast."""
        self._model = model
        self.network: nn.Module = model.visual
        self._parameter = next(self._model.visual.parameters())
        self._bf16 = bf16
        self.preprocessing = preprocessing
        self.dim = dim

    def forward(self, pixels: Tensor) -> TowerOutput:
        """One vector per image, no tokens."""
        with autocast(pixels.device, enabled=self._bf16):
            image = self._model.encode_image(pixels.to(self._parameter.dtype))
        return TowerOutput(image.float(), None)

    def decoder_input(self, pixels: Tensor, *, dense: bool) -> DecoderInput:
        """There are no tokens to decode.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{type(self.network).__name__} gives no tokens that a grounding decoder could look at")

    def project(self, pooled: Tensor) -> Tensor:
        """There are no tokens to project; what comes in goes out."""
        return pooled
