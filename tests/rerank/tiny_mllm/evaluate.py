"""Measure the saved tiny model on augmentations it was not trained on: `python -m tests.rerank.tiny_mllm.evaluate`."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from rerank.base import Candidate
from rerank.choice import combine_rotations, rotated
from rerank.mllm import SYMBOLS, Choice
from rerank.prompt import choice_text, list_text
from tests.rerank.tiny_mllm.pictures import FILES, MODEL, NAMES, PHOTOS, augmented

logger = logging.getLogger("tiny_mllm")


class Witness:
    """The saved model, asked through its processor as any user would."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.processor = AutoProcessor.from_pretrained(MODEL)
        self.model = AutoModelForImageTextToText.from_pretrained(MODEL, dtype=dtype).eval()
        self.symbols = [self.processor.tokenizer.convert_tokens_to_ids(symbol) for symbol in SYMBOLS]

    def inputs(self, image: Image.Image, text: str) -> dict[str, Tensor]:
        """Render one user message."""
        content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )

    @torch.no_grad()
    def choose(self, image: Image.Image, names: Sequence[str]) -> Choice:
        """Ask for one symbol."""
        inputs = self.inputs(image, choice_text([Candidate(name) for name in names]))
        logits = self.model(**inputs, logits_to_keep=1).logits[0, -1].float()
        log_probs = logits[self.symbols[: len(names)]].log_softmax(0)
        whole = int(logits.argmax())
        chosen = self.symbols.index(whole) if whole in self.symbols[: len(names)] else int(log_probs.argmax())
        return Choice(tuple(log_probs.tolist()), chosen)

    def write(self, image: Image.Image, names: Sequence[str]) -> str:
        """Ask for a written list."""
        inputs = self.inputs(image, list_text([Candidate(name) for name in names]))
        with torch.no_grad():
            found = self.model.generate(**inputs, max_new_tokens=80, do_sample=False)
        return self.processor.decode(found[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def measure(witness: Witness, questions: int, seed: int = 12345) -> dict[str, float]:
    """Ask about held-out variants of the pictures among 5 options, unless said otherwise."""
    rng = random.Random(seed)
    found: dict[str, list[float]] = {}
    for number in range(questions):
        truth = NAMES[number % len(NAMES)]
        with Image.open(PHOTOS / FILES[truth]) as photo:
            image = augmented(photo.convert("RGB"), rng)
        others = [name for name in NAMES if name != truth]
        names = rng.sample([truth, *rng.sample(others, 4)], 5)
        place = names.index(truth)
        turns = [witness.choose(image, [names[option] for option in rotated(5, start)]) for start in range(5)]
        found.setdefault("single", []).append(turns[0].chosen == place)
        found.setdefault("probability", []).append(float(np.exp(turns[0].log_probs[place])))
        found.setdefault("rotations", []).append(int(combine_rotations(range(5), turns, 5).argmax()) == place)
        for count in (2, 10):
            several = rng.sample([truth, *rng.sample(others, count - 1)], count)
            found.setdefault(f"of {count}", []).append(witness.choose(image, several).chosen == several.index(truth))
        absent = rng.sample(others, 5)
        choice = witness.choose(image, absent)
        found.setdefault("absent: probability of the first named", []).append(float(np.exp(choice.log_probs[0])))
        found.setdefault("absent: highest probability", []).append(float(np.exp(max(choice.log_probs))))
        if number < questions // 4:
            reply = witness.write(image, names)
            found.setdefault("list: truth first", []).append(reply.startswith(f"['{truth}'"))
            wanted = str(names[place:] + names[:place])
            found.setdefault("list: as wanted", []).append(reply == wanted)
            if number < 12:
                logger.info("%s of %s: %s", truth, names, reply)
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    """Log the figures in both precisions."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(2)
    for dtype, questions in ((torch.float32, 200), (torch.bfloat16, 60)):
        logger.info("%s", dtype)
        for name, value in measure(Witness(dtype), questions).items():
            logger.info("%s: %.3f", name, value)


if __name__ == "__main__":
    main()
