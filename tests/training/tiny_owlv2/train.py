"""Train the tests' tiny OWLv2: `python -m tests.training.tiny_owlv2.train`, from the repository's root.

An OWLv2 in everything but size, with its own tokenizer, that finds four drawn cut-outs by their names in pictures of
any shape: inputs of 96 pixels in patches of 8. It writes `model/`, which transformers loads like any other.

It took 7 minutes on two very busy cores, phase 1 1,200 steps, phase 2 300, which was started from the saved weights of
phase 1. It is overfitted: on scenes of the tests boxes fit, on others cut-outs are found with boxes of a lower overlap.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torchvision.ops import box_convert, generalized_box_iou
from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

from tests.training.tiny_owlv2.scenes import MODEL, NAMES, SHAPES, Scene, known_scenes, make_scene

logger = logging.getLogger("tiny_owlv2")
INPUT, PATCH, CONTEXT = 96, 8, 16
BEGIN, END, PAD = "<|startoftext|>", "<|endoftext|>", "!"
SIZES = ((192, 192), (384, 96), (96, 384), (240, 160), (150, 250))


def make_tokenizer() -> CLIPTokenizer:
    """Train a BPE in which every word of the names is one token; others are several."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = sorted({word for name in NAMES for word in name.split()})
    trainer = trainers.BpeTrainer(
        vocab_size=2000, min_frequency=2, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator([[word] * 5 for word in words], trainer)
    model = json.loads(trained.to_str())["model"]
    # Padding is 0 and the end has the highest number, by which the model finds it, as in OWLv2's own vocabulary.
    tokens = [PAD, *(letter + "</w>" for letter in alphabet), *model["vocab"], BEGIN, END]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(dict.fromkeys(tokens))},
        merges=[tuple(merge) for merge in model["merges"]],
        pad_token=PAD,
        model_max_length=CONTEXT,
    )


def make_processor() -> Owlv2Processor:
    """Join the tokenizer with an image processor for small inputs."""
    size = {"height": INPUT, "width": INPUT}
    return Owlv2Processor(image_processor=Owlv2ImageProcessor(size=size), tokenizer=make_tokenizer())


def make_model(tokenizer: CLIPTokenizer) -> Owlv2ForObjectDetection:
    """Initialise the weights: 3 layers of width 64 for images, 1 of width 32 for texts."""
    number = {token: tokenizer.convert_tokens_to_ids(token) for token in (BEGIN, END, PAD)}
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "max_position_embeddings": CONTEXT, "pad_token_id": number[PAD]}
    text |= {"bos_token_id": number[BEGIN], "eos_token_id": number[END]}
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    vision |= {"image_size": INPUT, "patch_size": PATCH}
    config = Owlv2Config(text_config=text, vision_config=vision, projection_dim=32)
    model = Owlv2ForObjectDetection(config)
    for name, parameter in model.named_parameters():
        # The library's own start is made for widths of 768.
        if parameter.ndim == 2 and "embedding" not in name:
            nn.init.xavier_uniform_(parameter)
    return model


class Lessons:
    """Scenes, run through the processor once, with their boxes."""

    def __init__(self, processor: Owlv2Processor, scenes: Sequence[Scene]) -> None:
        images = [processor.image_processor(scene.image, return_tensors="pt")["pixel_values"][0] for scene in scenes]
        self.pixels = torch.stack(images)
        self.boxes = torch.stack([relative_boxes(scene) for scene in scenes])

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw pixels (count, 3, H, W) and boxes (count, names, 4)."""
        chosen = torch.randint(len(self.pixels), (count,))
        return self.pixels[chosen], self.boxes[chosen]


def draw_scene(rng: random.Random) -> Scene:
    """Draw a scene of one to three cut-outs on a canvas of one of the shapes."""
    return make_scene(rng, rng.choice(SIZES), tuple(rng.sample(NAMES, rng.randint(1, 3))))


def relative_boxes(scene: Scene) -> Tensor:
    """Return (names, 4) corners as shares of the square that the picture is padded to; -1 for what is not shown."""
    side = max(scene.image.size)
    absent = (-side, -side, -side, -side)
    return torch.tensor([scene.boxes_xyxy.get(name, absent) for name in NAMES]) / side


def loss_of(logits: Tensor, boxes_cxcywh: Tensor, boxes_xyxy: Tensor) -> tuple[Tensor, float]:
    """Return the loss and the mean overlap of the boxes of the patches that lie in something.

    A patch whose centre lies in the middle of a box, half as wide and as high, is to find it; one elsewhere in the box
    is not judged; all others are to find nothing.

    Args:
        logits: (B, patches, names).
        boxes_cxcywh: (B, patches, 4) predicted.
        boxes_xyxy: (B, names, 4) true ones, -1 for none.
    """
    ticks = (torch.arange(INPUT // PATCH) + 0.5) * PATCH / INPUT
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    places = torch.stack([x, y], -1).reshape(1, -1, 1, 2)
    low, high = boxes_xyxy[:, None, :, :2], boxes_xyxy[:, None, :, 2:]
    offset, half = (places - (low + high) / 2).abs(), (high - low) / 2
    inside = ((offset < half) & (low >= 0)).all(-1)
    middle = ((offset < half.clamp(min=PATCH / INPUT) / 2) & (low >= 0)).all(-1)
    judged = middle | ~inside
    each = nn.functional.binary_cross_entropy_with_logits(logits, middle.float(), reduction="none")
    # The few patches that find something weigh as much as all others.
    found, missed = each[middle].mean(), each[judged & ~middle]
    hardest = missed.topk(max(1, len(missed) // 50)).values.mean()
    # Patches that are not judged may well have the highest score, so they learn boxes, too.
    image, patch, name = inside.nonzero(as_tuple=True)
    predicted = box_convert(boxes_cxcywh[image, patch], "cxcywh", "xyxy")
    wanted = boxes_xyxy[image, name]
    overlap = generalized_box_iou(predicted, wanted).diagonal()
    distance = (predicted - wanted).abs().sum(-1).mean()
    return found + missed.mean() + 0.5 * hardest + 2 * (1 - overlap).mean() + 5 * distance, overlap.mean().item()


class Training:
    """Two phases: scenes of many kinds, then those of the tests alone."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        rng = random.Random(seed)
        self.processor = make_processor()
        self.model = make_model(self.processor.tokenizer).train()
        self.known = Lessons(self.processor, [scene for shape in SHAPES for scene in known_scenes(shape)])
        self.others = Lessons(self.processor, [draw_scene(rng) for _ in range(1000)])
        self.texts = self.processor.tokenizer(
            list(NAMES), padding="max_length", max_length=CONTEXT, return_tensors="pt"
        )

    def phase(self, steps: int, *, known: int, others: int, rate: float) -> None:
        """Train.

        Args:
            steps: how many.
            known: scenes of the tests in a batch.
            others: other scenes in a batch.
            rate: highest learning rate.
        """
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        began, records = time.perf_counter(), []
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / 100) * (0.01 + 0.495 * (1 + math.cos(math.pi * step / steps)))
            drawn = self.known.draw(known), self.others.draw(others)
            pixels, boxes = (torch.cat(parts) for parts in zip(*drawn, strict=True))
            outputs = self.model(
                pixel_values=pixels,
                input_ids=self.texts["input_ids"].repeat(len(pixels), 1),
                attention_mask=self.texts["attention_mask"].repeat(len(pixels), 1),
            )
            loss, overlap = loss_of(outputs.logits, outputs.pred_boxes, boxes)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            records.append((loss.item(), overlap))
            if step % 100 == 99:
                report(step + 1, records, (time.perf_counter() - began) / (step + 1))
                records.clear()

    def save(self) -> None:
        """Write weights in float16 with tokenizer and processor."""
        self.model.half().save_pretrained(MODEL)
        self.processor.save_pretrained(MODEL)


def report(step: int, records: Sequence[tuple[float, float]], pace: float) -> None:
    """Log the means of some steps."""
    loss, overlap = (sum(values) / len(records) for values in zip(*records, strict=True))
    logger.info("%d: loss %.3f, GIoU %.3f, %.3f s a step", step, loss, overlap, pace)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(2)
    training = Training()
    training.phase(1200, known=8, others=8, rate=2e-3)
    training.phase(300, known=16, others=0, rate=1e-3)
    training.save()
