"""Images/s of the choice in this process: whole prompts, shared beginnings, and shared beginnings with `auto`.

usage: python tests/benchmarks/shared_prompts.py [--images 60] [--large-images 1] [--layers 2] [--rounds 3]
       python tests/benchmarks/shared_prompts.py --device cuda --layers 28 --large-images 16

Two models are asked about five options, once per rotation, the ways in turns in every round: the tiny model that knows
ten pictures, and a Qwen2-VL with the width, the heads and the vocabulary of the 2B model, random weights in bf16, and
images of 512 tokens. Its text and its image tower have `--layers` layers, of 28 and 32. It has never learned anything,
so that `auto` has to ask for all rotations. Everything runs in one thread, for on a busy machine threads wait for each
other. A ratio is the middle of the
rounds' ratios to whole prompts, by wall time and by processor time, for other work on the machine slows single rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
)

sys.path.insert(0, str(Path(__file__).parents[2]))

from recognizer.console import note, table
from rerank.backends.local import read_choice, symbol_ids
from rerank.backends.transformers_local import TransformersLocal
from rerank.mllm import SYMBOLS, Choice, ChoiceRequest
from rerank.reranker import MllmReranker
from tests.rerank.seeing import Case, answers, make_cases
from tests.rerank.tiny_mllm.build import make_processor
from tests.rerank.tiny_mllm.pictures import MODEL

DESCRIBED = ("with a short tail and pointed ears, seen from the side", "often on a branch or a stone, alone")
WIDE, HIGH = 896, 448  # 32 x 16 tokens of 28 x 28 pixels


class WholePrompts:
    """What `TransformersLocal` did before prompts shared anything: each rotation with its image, in padded batches."""

    def __init__(self, model: str, dtype: str, batch_size: int, device: str) -> None:
        self.name = self.identity = "whole prompts"
        self.parallel = batch_size
        self._processor: Any = AutoProcessor.from_pretrained(model)
        self._processor.tokenizer.padding_side = "left"
        self._network: Any = AutoModelForImageTextToText.from_pretrained(model, dtype=dtype).eval().to(device)
        encode = self._processor.tokenizer.encode
        self._ids = symbol_ids(lambda text: encode(text, add_special_tokens=False), SYMBOLS)

    def choose(self, requests: Sequence[ChoiceRequest]) -> list[Choice]:
        order = sorted(range(len(requests)), key=lambda place: len(requests[place].text))
        found: dict[int, Choice] = {}
        for start in range(0, len(order), self.parallel):
            places = order[start : start + self.parallel]
            found |= zip(places, self._batch([requests[place] for place in places]), strict=True)
        return [found[place] for place in range(len(requests))]

    @torch.inference_mode()
    def _batch(self, requests: Sequence[ChoiceRequest]) -> list[Choice]:
        texts = [
            self._processor.apply_chat_template(
                [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": request.text}]}],
                add_generation_prompt=True,
                tokenize=False,
            )
            for request in requests
        ]
        images = [[request.image] for request in requests]
        inputs = dict(
            self._processor(text=texts, images=images, return_tensors="pt", padding=True).to(self._network.device)
        )
        inputs["pixel_values"] = inputs["pixel_values"].to(self._network.dtype)
        rows = self._network(**inputs, logits_to_keep=1).logits[:, -1].float().log_softmax(-1).cpu().numpy()
        return [
            read_choice(row.__getitem__, self._ids, request.symbols, Choice((), 0).usage)
            for row, request in zip(rows, requests, strict=True)
        ]

    def close(self) -> None:
        self._network = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--large-images", type=int, default=1)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.images:
        cases = make_cases(arguments.images, swapped=False)
        found = compared(str(MODEL), "float32", 16, cases, arguments.rounds, arguments.device)
        print(f"tiny model, {len(cases)} images\n{found}\n", flush=True)
    if not arguments.large_images:
        return
    large = [large_case(case) for case in make_cases(arguments.large_images, swapped=False)]
    with tempfile.TemporaryDirectory() as folder:
        note("making the large model ...")
        make_large(Path(folder), arguments.layers)
        title = f"width of Qwen2-VL-2B, {arguments.layers} layers, {len(large)} images of 512 tokens"
        print(f"{title}\n{compared(folder, 'bfloat16', 8, large, arguments.rounds, arguments.device)}")


def large_case(case: Case) -> Case:
    """Scale the picture to 512 tokens, and describe the options."""
    candidates = tuple(
        type(candidate)(candidate.name, DESCRIBED, confidence=candidate.confidence) for candidate in case.candidates
    )
    return Case(case.image.resize((WIDE, HIGH), Image.Resampling.BICUBIC), case.truth, candidates, case.shown)


def make_large(folder: Path, layers: int) -> None:
    """Save a random model of the 2B model's shape, but for its layers, with the tiny model's words."""
    processor = make_processor()
    pixels = WIDE * HIGH
    processor.image_processor = Qwen2VLImageProcessor(size={"shortest_edge": pixels, "longest_edge": pixels})
    number = processor.tokenizer.convert_tokens_to_ids
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": 151_936,
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": layers,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
            "tie_word_embeddings": True,
        },
        vision_config={"depth": layers, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4},
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    Qwen2VLForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)


def compared(model: str, dtype: str, batch_size: int, cases: list[Case], rounds: int, device: str) -> str:
    shared = TransformersLocal(model, device=device, dtype=dtype, batch_size=batch_size)
    whole = WholePrompts(model, dtype, batch_size, device)
    ways: dict[str, tuple[Any, Any]] = {
        "whole prompts": (whole, None),
        "shared beginnings": (shared, None),
        "the same, auto": (shared, "auto"),
    }
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    asked: dict[str, float] = {}
    for _ in range(rounds):
        for way, (mllm, rotations) in ways.items():
            reranker = MllmReranker(mllm, rotations=rotations)
            wall, cpu = time.perf_counter(), time.process_time()
            answers(reranker, cases)
            times[way].append((time.perf_counter() - wall, time.process_time() - cpu))
            asked[way] = reranker.counts.requests / len(cases)
    rows = []
    for way, spent in times.items():
        before = times["whole prompts"]
        ratios = [statistics.median(b[i] / a[i] for b, a in zip(before, spent, strict=True)) for i in (0, 1)]
        best, cpu = min(wall for wall, _ in spent), min(cpu for _, cpu in spent)
        rows.append(
            [
                way,
                f"{asked[way]:.2f}",
                f"{len(cases) / best:.2f}",
                f"{1e3 * cpu / len(cases):.0f}",
                *(f"{ratio:.2f}" for ratio in ratios),
            ]
        )
    return table(["way", "requests/image", "images/s", "CPU ms/image", "ratio, wall", "ratio, CPU"], rows)


if __name__ == "__main__":
    main()
