"""How fast an open_clip text tower encodes a label file: the usual loop against `Encoder.encode_texts`.

The usual loop takes one class at a time, its name and eight descriptions at context 77 in fp32, as the loop in
`open_clip.build_zero_shot_classifier_legacy` does. It is timed on a sample of the classes; ours encodes them all.
The weights are random, which changes no speed.

    python tests/benchmarks/text_encoding.py [--names 1000] [--sample 40] [--model ViT-B-32]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import open_clip
import torch
from torch.nn import functional as F

from recognizer.encoder import Encoder

DESCRIPTIONS = (
    *("four legs", "a long tail", "short brown fur", "pointed ears"),
    *("a white belly", "large round eyes", "a metal handle", "black and white stripes"),
)


def class_texts(name: str) -> list[str]:
    """The texts of one category: its name, and its name with each description."""
    return [f"a photo of a {name}.", *(f"a photo of a {name}, which has {text}" for text in DESCRIPTIONS)]


def usual_loop(model: torch.nn.Module, tokenizer, names: list[str]) -> np.ndarray:
    """One class at a time, full context."""
    with torch.no_grad():
        rows = [F.normalize(model.encode_text(tokenizer(class_texts(name))), dim=-1) for name in names]
    return torch.cat(rows).numpy()


def timed(function, *arguments) -> tuple[np.ndarray, float]:
    """What the function returns, and its seconds."""
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=1000, help="ImageNet names to encode, up to 1000")
    parser.add_argument("--sample", type=int, default=40, help="of them, how many the usual loop is timed on")
    parser.add_argument("--model", default="ViT-B-32")
    options = parser.parse_args()

    names = list(open_clip.IMAGENET_CLASSNAMES[: options.names])
    texts = [text for name in names for text in class_texts(name)]
    sample = names[:: max(1, len(names) // options.sample)][: options.sample]
    sample_rows = [row for name in sample for row in range(names.index(name) * 9, names.index(name) * 9 + 9)]
    encoders = {
        precision: Encoder.load(options.model, "random", device="cpu", precision=precision)
        for precision in ("fp32", "bf16")
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model(options.model).eval()

    tokenizer = open_clip.get_tokenizer(options.model)
    usual_loop(model, tokenizer, sample[:1])
    reference, seconds = timed(usual_loop, model, tokenizer, sample)
    usual_rate = len(reference) / seconds
    print(f"{options.model}, random weights, {torch.get_num_threads()} threads; {len(texts)} texts")
    print(f"the usual loop was timed on {len(reference)} of them\n")
    print("| way | texts/s | ratio | min cosine | max difference |")
    print("|---|---|---|---|---|")
    print(f"| one class at a time, context 77, fp32 | {usual_rate:.1f} | 1.0 | 1 | 0 |")
    for precision, encoder in encoders.items():
        encoder.encode_texts(texts[:64])
        vectors, seconds = timed(encoder.encode_texts, texts)
        rate, ours = len(texts) / seconds, vectors[sample_rows]
        cosine, difference = (ours * reference).sum(axis=1).min(), np.abs(ours - reference).max()
        print(f"| encode_texts, {precision} | {rate:.1f} | {rate / usual_rate:.1f} | {cosine:.6f} | {difference:.1e} |")


if __name__ == "__main__":
    main()
