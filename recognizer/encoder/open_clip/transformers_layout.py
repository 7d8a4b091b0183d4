"""State dicts of Hugging Face Transformers' `CLIPModel` and `SiglipModel`, in the layout of open_clip."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_PREFIXES = ("vision_model.", "text_model.")
_UNTRAINED = "embeddings.position_ids"  # 0, 1, 2, …, which older versions of Transformers save
# Names of one transformer block after `layers.N.`, in open_clip's own transformers and in timm's.
_OPEN_CLIP_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.qkv": "attn.in_proj_",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_TIMM_BLOCK = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.qkv": "attn.qkv.",
    "self_attn.out_proj": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
# Names outside the blocks of a CLIP, whose two projections are matrices of (width, dim) in open_clip.
_CLIP = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.": "visual.ln_pre.",  # Transformers' spelling
    "vision_model.post_layernorm.": "visual.ln_post.",
    "text_model.embeddings.token_embedding.": "token_embedding.",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.": "ln_final.",
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
}
_SIGLIP = {
    "vision_model.embeddings.patch_embedding.": "visual.trunk.patch_embed.proj.",
    "vision_model.embeddings.position_embedding.weight": "visual.trunk.pos_embed",
    "vision_model.post_layernorm.": "visual.trunk.norm.",
    "vision_model.head.probe": "visual.trunk.attn_pool.latent",
    "vision_model.head.attention.out_proj.": "visual.trunk.attn_pool.proj.",
    "vision_model.head.layernorm.": "visual.trunk.attn_pool.norm.",
    "vision_model.head.mlp.": "visual.trunk.attn_pool.mlp.",
    "text_model.embeddings.token_embedding.": "text.token_embedding.",
    "text_model.embeddings.position_embedding.weight": "text.positional_embedding",
    "text_model.final_layer_norm.": "text.ln_final.",
    "text_model.head.": "text.text_projection.",
}
_BLOCK = re.compile(r"(vision_model|text_model)\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def is_transformers_layout(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict has the names of Transformers' two-tower models."""
    return any(name.startswith(_PREFIXES) for name in state)


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape the tensors of a `CLIPModel` or a `SiglipModel`, as open_clip's networks hold them.

    A CLIP becomes open_clip's `CLIP` with its own `VisionTransformer`, a SigLIP its `CustomTextCLIP` around timm's
    vision transformer. Queries, keys and values become one tensor. Names that belong to neither stay as they are.
    """
    siglip = any(name.startswith(("vision_model.head.", "text_model.head.")) for name in state)
    names = _SIGLIP if siglip else _CLIP
    converted: dict[str, Tensor] = {}
    for name, value in _joined(state).items():
        if name.endswith(_UNTRAINED):
            continue
        block = _BLOCK.fullmatch(name)
        if block is not None:
            converted[_block_name(*block.groups(), siglip=siglip)] = value
        elif name.startswith("logit_"):
            converted[name] = value.reshape(())
        elif name.startswith("vision_model.head.attention.in_proj_"):
            converted |= _pooling_projections(name.rpartition("_")[2], value)
        else:
            renamed = next((new + name.removeprefix(old) for old, new in names.items() if name.startswith(old)), name)
            converted[renamed] = _reshaped(renamed, value)
    return converted


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the queries, keys and values of each block into one tensor, in this order."""
    joined: dict[str, Tensor] = {}
    for name, value in state.items():
        if ".self_attn.q_proj." in name:
            parts = [state.get(name.replace(".q_proj.", f".{letter}_proj.")) for letter in "qkv"]
            if all(part is not None for part in parts):
                joined[name.replace(".q_proj.", ".qkv.")] = torch.cat([part for part in parts if part is not None])
        elif not re.search(r"\.self_attn\.[kv]_proj\.", name):
            joined[name] = value
    return joined


def _block_name(tower: str, number: str, part: str, kind: str, *, siglip: bool) -> str:
    if tower == "vision_model" and siglip:
        root, names = "visual.trunk.blocks", _TIMM_BLOCK
    else:
        prefix = "visual." if tower == "vision_model" else "text." if siglip else ""
        root, names = f"{prefix}transformer.resblocks", _OPEN_CLIP_BLOCK
    renamed = names.get(part, part)
    return f"{root}.{number}.{renamed}{kind if renamed.endswith(('.', '_')) else f'.{kind}'}"


def _pooling_projections(kind: str, value: Tensor) -> dict[str, Tensor]:
    """Split the pooling attention: timm keeps the queries apart from keys and values."""
    width = len(value) // 3
    return {
        f"visual.trunk.attn_pool.q.{kind}": value[:width],
        f"visual.trunk.attn_pool.kv.{kind}": value[width:],
    }


def _reshaped(name: str, value: Tensor) -> Tensor:
    if name in ("visual.proj", "text_projection"):
        return value.T.contiguous()
    return value[None] if name == "visual.trunk.pos_embed" else value
