"""Tiny detectors with random weights, saved to disk as real ones are; their boxes mean nothing."""

from __future__ import annotations

import string
from pathlib import Path

import torch

OWLV2_SIDE = 64
WORDS = ["red", "blue", "long", "curved", "beak", "bird", "dog", "cat", "tail", "wing", "with", "a", "of", "yellow"]


def save_owlv2(folder: Path, *, side: int = OWLV2_SIDE, width: int = 32, heads: int = 2, layers: int = 2) -> Path:
    """Save an OWLv2 with patches of 16 pixels, whose tokens are characters; its boxes lie on a grid."""
    from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    characters = sorted({*string.printable.strip(), "é"})
    specials = ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate([*characters, *(c + "</w>" for c in characters), *specials])}
    merges = [("b", "i"), ("bi", "r"), ("bir", "d</w>"), ("r", "e"), ("re", "d</w>")]
    vocab |= {a + b: len(vocab) + i for i, (a, b) in enumerate(merges)}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, pad_token="!", model_max_length=16)
    part = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    seeing = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    config = Owlv2Config(
        text_config={
            **part,
            "vocab_size": len(vocab),
            "max_position_embeddings": 16,
            "bos_token_id": vocab[specials[0]],
            "eos_token_id": vocab[specials[1]],
        },
        vision_config={**seeing, "num_attention_heads": heads, "image_size": side, "patch_size": 16},
        projection_dim=32,
    )
    torch.manual_seed(0)
    network = Owlv2ForObjectDetection(config)
    for module in (network.class_head.logit_scale, network.class_head.logit_shift):
        torch.nn.init.normal_(module.weight, std=0.2)  # or all scores are nearly the same
    torch.nn.init.zeros_(network.box_head.dense2.weight)  # the boxes are then those of the grid, of known place
    network.save_pretrained(folder)
    images = Owlv2ImageProcessor(size={"height": side, "width": side})
    Owlv2Processor(images, tokenizer).save_pretrained(folder)
    return folder


def save_grounding_dino(folder: Path) -> Path:
    """Save a Grounding DINO with a Swin of one block per stage and 12 queries, which knows `WORDS`."""
    from transformers import (
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )

    # The model knows the ends of its texts by the ids of BERT's own vocabulary.
    tokens = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    tokens |= {word: 1100 + i for i, word in enumerate(WORDS)}
    names = {i: token for token, i in tokens.items()}
    vocab = {names.get(i, f"[unused{i}]"): i for i in range(1100 + len(WORDS))}
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config={
            "model_type": "bert", "vocab_size": len(vocab), "hidden_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
        },
        num_queries=12, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_text_len=32, num_feature_levels=4,
        use_timm_backbone=False,
    )  # fmt: skip
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 256})
    GroundingDinoProcessor(images, BertTokenizer(vocab=vocab)).save_pretrained(folder)
    return folder
