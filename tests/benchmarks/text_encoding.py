"""How fast an open_clip text tower encodes a label file: open_clip's zero-shot builder against `Encoder.encode_texts`.

    python tests/benchmarks/text_encoding.py [--names 60] [--rounds 3] [--model ViT-B-32]

Each category has nine texts: its name, and its name with eight descriptions. The builder,
`open_clip.build_zero_shot_classifier`, takes ten categories at a time, at context 77. The bound is the bare text tower
over batches that are ready. All take turns, in fp32 and in bf16, with the same random weights, which change no speed.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
import open_clip
import torch

from recognizer.console import table
from recognizer.encoder import Encoder
from recognizer.encoder.text_batches import padded_batches
from recognizer.encoder.towers import TextTower
from tests.benchmarks.comparison import Comparison, add_json_option, hand_over, in_turns
from tests.benchmarks.open_clip_script import OpenClip

DESCRIPTIONS = (
    *("four legs", "a long tail", "short brown fur", "pointed ears"),
    *("a white belly", "large round eyes", "a metal handle", "black and white stripes"),
)
TEMPLATES = ("a photo of a {}.", *(f"a photo of a {{}}, which has {text}" for text in DESCRIPTIONS))
BUILDER = "open_clip.build_zero_shot_classifier"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=60, help="ImageNet names to encode, up to 1000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="ViT-B-32")
    add_json_option(parser)
    options = parser.parse_args()

    names = list(open_clip.IMAGENET_CLASSNAMES[: options.names])
    texts = [template.format(name) for name in names for template in TEMPLATES]
    comparisons, rows = [], []
    for precision in ("fp32", "bf16"):
        plain = OpenClip.load(options.model, precision)
        encoder = Encoder.load(options.model, "random", device="cpu", precision=precision)
        tower = encoder.parts.text_tower
        ready = [tokens for _, tokens in padded_batches(tower, tower.tokenize(texts))]
        times = in_turns(
            {
                BUILDER: partial(plain.classifier, names, TEMPLATES),
                "encode_texts": partial(encoder.encode_texts, texts),
                "bare text tower": partial(bare_passes, tower, ready),
            },
            options.rounds,
        )
        rates = {way: len(texts) / one.wall for way, one in times.items()}
        ours = encoder.encode_texts(texts).reshape(len(names), len(TEMPLATES), -1).mean(axis=1)
        ours /= np.linalg.norm(ours, axis=1, keepdims=True)
        cosine = float((ours * plain.classifier(names, TEMPLATES).numpy().T).sum(axis=1).min())
        rows += [
            [
                precision,
                way,
                f"{rate:.1f}",
                f"{rate / rates[BUILDER]:.1f}",
                f"{cosine:.5f}" if way == "encode_texts" else "",
            ]
            for way, rate in rates.items()
        ]
        comparisons.append(
            Comparison(
                f"{len(texts)} texts, {options.model}, {precision}",
                "texts/s",
                ours=rates["encode_texts"],
                peer=rates[BUILDER],
                bound=rates["bare text tower"],
                peer_is=BUILDER,
                bound_is="bare text tower",
            )
        )
    print(
        f"{options.model}, random weights, {torch.get_num_threads()} threads; {len(texts)} texts of {len(names)} names"
    )
    print(table(["precision", "way", "texts/s", "ratio", "least cosine with the builder"], rows))
    hand_over(options.json, comparisons)


def bare_passes(tower: TextTower, batches: list[torch.Tensor]) -> None:
    """Run the tower over tokens that are ready."""
    with torch.inference_mode():
        for tokens in batches:
            tower.forward(tokens)


if __name__ == "__main__":
    main()
