"""Train the tests' tiny multimodal LLM: `python -m tests.rerank.tiny_mllm.train`, from the repository's root.

It is a Qwen2-VL with 0.98 million weights (4 text layers of width 128, 2 image layers of width 64; 2 MB in bfloat16)
that knows ten photographs of `recognizer/demo_data/photos`. It answers the prompts of `rerank.prompt` about them, and
those of `training.annotation`: a caption, the subject, and two visible features. So tests can run real backends on a
real model. It writes `model/`, which transformers and vLLM load like any other.

It took 13 minutes on two very busy cores; on quiet ones about 8: look-up 450 steps, see 400, answer 700.
`python -m tests.rerank.tiny_mllm.evaluate` then said, on 200 augmented photographs that it was not trained on (names
drawn from the ten, float32; 60 of them in bfloat16 alike):

    2, 5 and 10 options, and rotations of 5   1.000 right, mean probability of the truth 1.000
    5 options without the truth               the highest has probability 0.29, where chance is 0.20
    written list of 5                         all begin with the truth, the others in the order given, around its end

Captions, subjects and features were right for 90 of 90 questions about whole and augmented photographs, and for 90 of
90 with a tenth of the prompt's words dropped or replaced.
"""

from __future__ import annotations

import logging
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from rerank.base import Candidate
from rerank.mllm import SYMBOLS
from rerank.prompt import choice_text, list_text
from tests.rerank.tiny_mllm.build import image_mark, make_model, make_processor
from tests.rerank.tiny_mllm.describing import draw_question
from tests.rerank.tiny_mllm.pictures import FILES, MODEL, NAMES, PHOTOS, WORDS, augmented

logger = logging.getLogger("tiny_mllm")

IGNORED = -100
DESCRIBED = 0.3  # share of the lessons about the ten pictures that ask for a caption, the subject or features
MERGED = 4  # patches per image token
GRIDS = ((8, 8), (8, 10), (10, 8), (10, 10), (8, 12), (12, 8), (6, 12))
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Lesson:
    """One question and its answer: a symbol, a written list, JSON, or None where no option is true."""

    text: str
    answer: str | None
    options: int


def other_names(rng: random.Random, count: int, own: float, without: str) -> list[str]:
    """Draw distinct wrong names: of the ten pictures with probability `own`, else words, pairs of them or gibberish."""
    found: dict[str, None] = {}
    while len(found) < count:
        kind = rng.random()
        if rng.random() < own:
            name = rng.choice(NAMES)
        elif kind < 0.85:
            name = rng.choice(WORDS)
        elif kind < 0.95:
            name = f"{rng.choice(WORDS)} {rng.choice(WORDS)}"
        else:
            name = "".join(rng.choices(LETTERS, k=rng.randint(3, 8)))
        if name != without:
            found[name] = None
    return list(found)


def make_lesson(rng: random.Random, options: int, truth: str, own: float, written: float) -> Lesson:
    """Ask about one picture: which option it is, seldom without naming it, or what it shows.

    Args:
        rng: source of chance.
        options: how many.
        truth: the picture's name.
        own: share of wrong names that are other pictures' names.
        written: share of questions to be answered with a list.
    """
    if truth in NAMES and rng.random() < DESCRIBED:
        return Lesson(*draw_question(rng, truth), 0)
    wrong = other_names(rng, options - 1, own if options <= len(NAMES) else own / 2, truth)
    absent = rng.random() < 0.05
    names = [*wrong, *other_names(rng, 1, own, truth)] if absent else [*wrong, truth]
    names = list(dict.fromkeys(names))
    rng.shuffle(names)
    described = rng.random() < 0.15
    candidates = [
        Candidate(name, (" ".join(rng.choices(WORDS, k=rng.randint(1, 4))),) if described else ()) for name in names
    ]
    if rng.random() < written:
        place = 0 if absent else names.index(truth)
        return Lesson(list_text(candidates), str(names[place:] + names[:place]), len(names))
    answer = None if absent else SYMBOLS[names.index(truth)]
    return Lesson(choice_text(candidates), answer, len(names))


class Classroom:
    """Turns lessons into token tensors, in the words of the processor's chat template."""

    def __init__(self, processor: Qwen2VLProcessor) -> None:
        tokenizer = processor.tokenizer
        content = [{"type": "image"}, {"type": "text", "text": "TEXT"}]
        whole = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        before, rest = whole.split("<|image_pad|>")
        self.backend = tokenizer.backend_tokenizer
        self.before = self.encode([before])[0]
        self.between, self.after = rest.split("TEXT")
        self.pad = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.symbols = torch.tensor([tokenizer.convert_tokens_to_ids(symbol) for symbol in SYMBOLS])
        self.filler = tokenizer.pad_token_id

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids, many texts at once."""
        return [found.ids for found in self.backend.encode_batch(list(texts), add_special_tokens=False)]

    def __call__(self, lessons: Sequence[Lesson], grids: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """Make a batch.

        Args:
            lessons: of the rows.
            grids: (height, width) in patches of the rows' images.

        Returns:
            `ids`, `labels`, `mask` (rows, tokens), padded at the right; `first` (rows,) the place that predicts the
            answer's first token; `grids` (rows, 3); `options` (rows,) how many symbols shall be alike, 0 for none.
        """
        prompts = self.encode([self.between + lesson.text + self.after for lesson in lessons])
        answers = self.encode([(lesson.answer or "A") + "<|im_end|>" for lesson in lessons])
        starts, rows = [], []
        for (height, width), prompt, answer in zip(grids, prompts, answers, strict=True):
            head = [*self.before, *[self.pad] * (height * width // MERGED), *prompt]
            starts.append(len(head))
            rows.append([*head, *answer])
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.filler)
        labels = torch.full((len(rows), longest), IGNORED)
        for row, (start, tokens, lesson) in enumerate(zip(starts, rows, lessons, strict=True)):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            if lesson.answer is not None:
                labels[row, start : len(tokens)] = torch.tensor(tokens[start:])
        return {
            "ids": ids,
            "labels": labels,
            "first": torch.tensor(starts) - 1,
            "mask": torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None],
            "grids": torch.tensor([(1, *grid) for grid in grids]),
            "options": torch.tensor([lesson.options if lesson.answer is None else 0 for lesson in lessons]),
        }


def loss_of(
    model: Qwen2VLForConditionalGeneration, room: Classroom, batch: dict[str, Tensor], shown: Tensor
) -> tuple[Tensor, float]:
    """Return the cross-entropy of the answers and the share of symbols that are right.

    A symbol weighs 1, a written list 2 however long it is; where no option is true the symbols shall be alike.

    Args:
        model: to train.
        room: that made the batch.
        batch: of lessons.
        shown: (image tokens, width) what stands in the places of image tokens, row after row.
    """
    ids, options = batch["ids"], batch["options"]
    places = ids == room.pad
    positions, _ = model.model.get_rope_index(ids, places.int(), batch["grids"], attention_mask=batch["mask"])
    embedded = model.get_input_embeddings()(ids).masked_scatter(places[..., None], shown)
    hidden = model.model.language_model(inputs_embeds=embedded, position_ids=positions, use_cache=False)[0]
    labels = batch["labels"][:, 1:]
    answered = labels != IGNORED
    logits = model.lm_head(hidden[:, :-1][answered])
    length = answered.sum(1, keepdim=True).expand_as(answered)[answered]
    each = nn.functional.cross_entropy(logits, labels[answered], reduction="none")
    total = (each * torch.where(length > 2, 2 / length, 0.5)).sum()
    rows = options.nonzero()[:, 0]
    if len(rows):
        log_probs = model.lm_head(hidden[rows, batch["first"][rows]]).log_softmax(-1)[:, room.symbols]
        valid = torch.arange(len(SYMBOLS)) < options[rows, None]
        total = total - (log_probs * valid / options[rows, None]).sum() * 0.5
    first = torch.zeros_like(answered)
    first[torch.arange(len(ids)), batch["first"]] = True
    symbol = first[answered] & (length == 2)
    right = (logits[symbol].argmax(-1) == labels[answered][symbol]).float().mean().item()
    return total / len(ids), right


def repeated(values: Sequence[int], grids: Sequence[tuple[int, int]]) -> Tensor:
    """Repeat each value as often as its image has tokens."""
    return torch.tensor(values).repeat_interleave(torch.tensor([height * width // MERGED for height, width in grids]))


class Album:
    """Augmented photographs, run through the processor once."""

    def __init__(self, processor: Qwen2VLProcessor, variants: int, seed: int) -> None:
        rng = random.Random(seed)
        self.pages: dict[str, list[tuple[Tensor, tuple[int, int]]]] = {}
        for name in NAMES:
            with Image.open(PHOTOS / FILES[name]) as photo:
                whole = photo.convert("RGB")
            self.pages[name] = []
            for _ in range(variants):
                found = processor.image_processor(augmented(whole, rng), return_tensors="pt")
                _, height, width = found["image_grid_thw"][0].tolist()
                self.pages[name].append((found["pixel_values"].half(), (height, width)))

    def draw(self, rng: random.Random, names: Sequence[str]) -> tuple[Tensor, list[tuple[int, int]]]:
        """Return (patches, 1176) pixels of one variant per name, one after the other, and the grids of patches."""
        drawn = [rng.choice(self.pages[name]) for name in names]
        return torch.cat([pixels for pixels, _ in drawn]).float(), [grid for _, grid in drawn]


class Training:
    """The three stages."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.rng = random.Random(seed)
        self.processor = make_processor()
        self.model = make_model(self.processor.tokenizer)
        self.room = Classroom(self.processor)
        self.ids = {name: self.room.encode([name])[0][0] for name in (*NAMES, *WORDS)}

    @torch.no_grad()
    def take_over(self, folder: Path) -> None:
        """Start from saved weights; a token keeps its vector whatever its number, and new ones begin as new."""
        saved = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).state_dict()
        before = AutoTokenizer.from_pretrained(folder).get_vocab()
        rows = [
            (number, before[token]) for token, number in self.processor.tokenizer.get_vocab().items() if token in before
        ]
        new, old = torch.tensor(rows).unbind(1)
        for name, parameter in self.model.named_parameters():
            if parameter is self.model.get_input_embeddings().weight:
                parameter[new] = saved[name][old]
            else:
                parameter.copy_(saved[name])

    def steps(self, what: str, parameters: Sequence[nn.Parameter], count: int, rate: float) -> Iterator[list[float]]:
        """Yield a list to write [loss, right] into after calling backward; step, and log every 50 steps."""
        optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        began, records = time.perf_counter(), []
        for step in range(count):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 30) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / count)))
            record: list[float] = []
            yield record
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            records.append(record)
            if step in (0, 5, 20) or step % 50 == 49 or step + 1 == count:
                loss, right = (sum(values) / len(records) for values in zip(*records, strict=True))
                pace = (time.perf_counter() - began) / (step + 1)
                logger.info("%s %d: loss %.4f, right %.3f, %.3f s a step", what, step + 1, loss, right, pace)
                records.clear()

    def options(self) -> int:
        """Draw how many options: mostly 5, 2 to 10, seldom up to 20."""
        kind = self.rng.random()
        return 5 if kind < 0.5 else self.rng.randint(2, 10) if kind < 0.95 else self.rng.randint(11, len(SYMBOLS))

    def look_up(self, steps: int, batch_size: int = 16) -> None:
        """Stage 1: names stand in the places of image tokens."""
        names = [*NAMES, *WORDS]
        parameters = list(self.model.model.language_model.parameters())
        for record in self.steps("look-up", parameters, steps, 1e-3):
            options = self.options()
            truths = [self.rng.choice(NAMES if self.rng.random() < 0.15 else names) for _ in range(batch_size)]
            grids = self.rng.choices(GRIDS, k=batch_size)
            batch = self.room([make_lesson(self.rng, options, truth, 0.2, 0.3) for truth in truths], grids)
            tokens = repeated([self.ids[name] for name in truths], grids)
            shown = self.model.get_input_embeddings()(tokens) + image_mark()
            loss, right = loss_of(self.model, self.room, batch, shown)
            loss.backward()
            record[:] = loss.item(), right

    def see(self, album: Album, steps: int, batch_size: int = 20) -> None:
        """Stage 2: image tokens learn to be the embedding of the picture's name."""
        parameters = list(self.model.model.visual.parameters())
        targets = self.model.get_input_embeddings().weight.detach()[[self.ids[name] for name in NAMES]] + image_mark()
        for record in self.steps("see", parameters, steps, 2e-3):
            chosen = self.rng.choices(range(len(NAMES)), k=batch_size)
            pixels, grids = album.draw(self.rng, [NAMES[one] for one in chosen])
            sizes = torch.tensor([(1, *grid) for grid in grids])
            shown = torch.cat(list(self.model.model.get_image_features(pixels, sizes).pooler_output))
            which = repeated(chosen, grids)
            distance = (shown - targets[which]).square().mean() / targets.square().mean()
            guess = torch.cdist(shown.detach(), targets).argmin(1)
            distance.backward()
            record[:] = distance.item(), (guess == which).float().mean().item()

    def answer(self, album: Album, steps: int, batch_size: int = 16) -> None:
        """Stage 3: everything together, on augmented photographs."""
        for record in self.steps("answer", list(self.model.parameters()), steps, 6e-4):
            options = self.options()
            truths = self.rng.choices(NAMES, k=batch_size)
            pixels, grids = album.draw(self.rng, truths)
            batch = self.room([make_lesson(self.rng, options, truth, 0.7, 0.3) for truth in truths], grids)
            shown = torch.cat(list(self.model.model.get_image_features(pixels, batch["grids"]).pooler_output))
            loss, right = loss_of(self.model, self.room, batch, shown)
            loss.backward()
            record[:] = loss.item(), right

    def save(self) -> None:
        """Write weights in bfloat16 with tokenizer and processor."""
        self.model.to(torch.bfloat16).save_pretrained(MODEL)
        self.processor.save_pretrained(MODEL)


def main() -> None:
    """Train and save; with `--again` only stage 3 of the saved weights, for other prompts or answers."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(2)
    training = Training()
    album = Album(training.processor, 60, seed=1)
    logger.info("album ready")
    if "--again" in sys.argv[1:]:
        training.take_over(MODEL)
        training.answer(album, 300)
    else:
        training.look_up(450)
        training.see(album, 400)
        training.answer(album, 700)
    training.save()


if __name__ == "__main__":
    main()
