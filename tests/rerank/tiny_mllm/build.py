"""The untrained tiny model: a Qwen2-VL in everything but size, with its own tokenizer and processor."""

from __future__ import annotations

import json

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    GenerationConfig,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from rerank.base import Candidate
from rerank.mllm import SYMBOLS
from rerank.prompt import choice_text, list_text
from tests.rerank.tiny_mllm.describing import caption_question, features_question, subject_question
from tests.rerank.tiny_mllm.pictures import NAMES, WORDS

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Squares come out as 4 x 4 or 5 x 5 image tokens of 28 pixels, wide photographs as up to 4 x 6.
CHANNEL = 32
IDENTITY, BEFORE, WRITTEN, SHOWN = 0, 32, 64, 96
ROPE_THETA = 1e6
SIZE = {"shortest_edge": 112 * 112, "longest_edge": 140 * 140}


def image_mark() -> torch.Tensor:
    """Return what image tokens carry besides the identity of a name: (128,) in the third channel."""
    mark = torch.zeros(128)
    mark[WRITTEN : WRITTEN + CHANNEL] = 0.5
    return mark


def make_tokenizer() -> Qwen2Tokenizer:
    """Train a byte-level BPE in which every word of the prompts, of `words.txt` and of the answers is one token."""
    words = [*NAMES, *WORDS]
    corpus = [form for word in words for form in (word, f" {word}")] * 2
    some = [Candidate(name, descriptions=(name,)) for name in words[:20]]
    corpus += [choice_text(some), list_text(some), str(list(words[:20])), *SYMBOLS] * 50
    for name in NAMES:
        corpus += [*caption_question(name), *subject_question(name), *features_question(name, name)] * 5
    corpus += ["system\nYou are a helpful assistant.", "user\n", "assistant\n"] * 50
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=10_000, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(corpus, trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=2048,
    )
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken(token, special=True, normalized=False) for token in SPECIAL]}
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_processor() -> Qwen2VLProcessor:
    """Join the tokenizer with image and video processors for small pictures."""
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=SIZE),
        tokenizer=make_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(size=SIZE),
        chat_template=TEMPLATE,
    )


def make_model(tokenizer: Qwen2Tokenizer) -> Qwen2VLForConditionalGeneration:
    """Initialise the weights: 4 layers of width 128 for text, 2 of width 64 for images."""
    number = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "hidden_size": 128,
            "intermediate_size": 192,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": [4, 6, 6]},
            "bos_token_id": number["<|endoftext|>"],
            "eos_token_id": number["<|im_end|>"],
            "pad_token_id": number["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        vision_config={"depth": 2, "embed_dim": 64, "hidden_size": 128, "num_heads": 2, "mlp_ratio": 2},
        image_token_id=number["<|image_pad|>"],
        video_token_id=number["<|video_pad|>"],
        vision_start_token_id=number["<|vision_start|>"],
        vision_end_token_id=number["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    model = Qwen2VLForConditionalGeneration(config)
    start_with_look_up(model)
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=number["<|endoftext|>"],
        eos_token_id=[number["<|im_end|>"], number["<|endoftext|>"]],
        pad_token_id=number["<|endoftext|>"],
    )
    return model


@torch.no_grad()
def start_with_look_up(model: Qwen2VLForConditionalGeneration) -> None:
    """Start the text layers from a rough look-up, which would otherwise take hours to emerge; all of it is trained on.

    The residual stream has four channels of 32: a token's own identity, the identity 3 tokens before it (the symbol
    before a name, or the name before in a list), the identity 2 tokens before it (the name last written; image tokens
    carry a mark there), and what the image shows. Layer 0 fills the second and third by looking back, layer 1 the
    fourth by looking for marks. Layer 2 looks for a token whose identity is what the image shows and says the symbol
    before it; layer 3 looks for a token that came after the name last written and says it.

    Args:
        model: freshly made; changed in place.
    """
    text = model.model.language_model
    for name, parameter in text.named_parameters():
        if parameter.ndim == 2:
            parameter.normal_(0, 0.02 if "o_proj" in name or "down_proj" in name else 0.04)
    identities = text.embed_tokens.weight
    identities.normal_(0, 0.02)
    identities[:, :CHANNEL] = 0.5 * torch.randn(len(identities), CHANNEL).sign()

    back, see, find, follow = (layer.self_attn for layer in text.layers)
    for head, (distance, channel) in enumerate(((3, BEFORE), (2, WRITTEN))):
        # Constant queries and keys, turned by RoPE's four fastest frequencies, meet at a fixed distance.
        turns = distance * ROPE_THETA ** -(torch.arange(4) / (CHANNEL // 2))
        start = head * CHANNEL
        back.q_proj.weight[start : start + CHANNEL] *= 0.1
        back.q_proj.bias[start : start + 4] = 6 * turns.cos()
        back.q_proj.bias[start + CHANNEL // 2 :][:4] = -6 * turns.sin()
        carry(back, head, IDENTITY, channel, 0.25)
    back.k_proj.weight[:CHANNEL] *= 0.1
    back.k_proj.bias[:4] = 6

    see.q_proj.weight[:CHANNEL] *= 0.1
    see.k_proj.weight[:CHANNEL] *= 0.1
    see.q_proj.bias[15] = 8
    see.k_proj.weight[15, WRITTEN : WRITTEN + CHANNEL] += 0.25
    carry(see, 0, IDENTITY, SHOWN, 0.45)

    for key_head in range(2):
        compare(find, key_head, SHOWN, IDENTITY, 1.9)
        for head in (2 * key_head, 2 * key_head + 1):
            carry(find, head, BEFORE, IDENTITY, 0.3)
    compare(follow, 0, WRITTEN, BEFORE, 2.5)
    for head in range(2):
        carry(follow, head, IDENTITY, IDENTITY, 0.3)


def compare(attention: nn.Module, key_head: int, asked: int, offered: int, gain: float) -> None:
    """Let the two query heads of a key head find tokens whose channel `offered` equals the asking token's `asked`."""
    # Only the ten slow frequencies compare alike at every distance, so 20 of the 32 numbers are compared.
    slow = torch.tensor([*range(6, 16), *range(22, 32)])
    compared = torch.randperm(CHANNEL)[:20]
    rows = slice(CHANNEL * key_head, CHANNEL * (key_head + 1))
    attention.k_proj.weight[rows] *= 0.1
    attention.k_proj.weight[CHANNEL * key_head + slow, offered + compared] = gain
    for head in (2 * key_head, 2 * key_head + 1):
        attention.q_proj.weight[CHANNEL * head : CHANNEL * (head + 1)] *= 0.1
        attention.q_proj.weight[CHANNEL * head + slow, asked + compared] = gain


def carry(attention: nn.Module, head: int, taken: int, written: int, gain: float) -> None:
    """Let a query head add channel `taken` of the tokens found to the channel `written`."""
    values = slice(CHANNEL * (head // 2), CHANNEL * (head // 2 + 1))
    columns = slice(CHANNEL * head, CHANNEL * (head + 1))
    attention.v_proj.weight[values] = 0
    attention.v_proj.weight[values, taken : taken + CHANNEL] = torch.eye(CHANNEL)
    attention.o_proj.weight[:, columns] = 0
    attention.o_proj.weight[written : written + CHANNEL, columns] = gain * torch.eye(CHANNEL)
