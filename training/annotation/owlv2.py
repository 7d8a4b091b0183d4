"""OWLv2 (arXiv 2306.09683) through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recognizer.images import DecodedImage, ImageItem
from training.annotation.detector import Found, found_above, load_network
from training.annotation.words import shorten


class Owlv2Detector:
    """Detects descriptions with OWLv2.

    Scores are sigmoids of each description's own logits. The library's post-processing gives each patch to the one
    description that likes it best, so that a description which is second everywhere would have no box.

    Args:
        model: directory or hub name.
        revision: commit of a hub model.
        device: where it computes, in float32: box coordinates lose pixels in fewer bits.
    """

    def __init__(self, model: str, *, revision: str | None, device: torch.device) -> None:
        """Load processor and weights."""
        from transformers import Owlv2ForObjectDetection, Owlv2Processor

        processor, network, weights = load_network(
            Owlv2Processor, Owlv2ForObjectDetection, model, revision=revision, device=device
        )
        self._images: Any = processor.image_processor
        self._tokenizer: Any = processor.tokenizer
        self._network, self._device = network, device
        self._context: int = network.config.text_config.max_position_embeddings
        self.name = model
        self.identity = f"owlv2 {weights} float32"
        size = self._images.size
        self.input_size_hw: tuple[int, int] | None = size["height"], size["width"]

    def shortened(self, descriptions: Sequence[str]) -> list[str]:
        """Shorten each text to the context, 16 tokens with those of beginning and end."""
        return [shorten(text, self._fits) for text in descriptions]

    def prepare(self, item: ImageItem, decoded: DecodedImage) -> tuple[Tensor, Tensor]:
        """Return (3, H, W) pixels, and (4,) factors from relative coordinates to displayed pixels."""
        pixels = self._images(images=decoded.image, return_tensors="pt")["pixel_values"][0]
        height, width = decoded.displayed_size_hw
        if self._images.do_pad:  # below or at the right, to a square
            x = max(decoded.image.size) * width / decoded.image.width
            y = max(decoded.image.size) * height / decoded.image.height
        else:
            x, y = float(width), float(height)
        return pixels, torch.tensor([x, y, x, y])

    def detect(
        self, prepared: Sequence[tuple[Tensor, Tensor]], descriptions: Sequence[Sequence[str]], threshold: float
    ) -> list[list[Found]]:
        """See `Detector`."""
        most = max(map(len, descriptions))
        # Every image needs the same number of texts, and padding of the library's kind is not masked by the model. So
        # the first text stands in, and what is found for it there is not read.
        texts = [[*each, *[each[0]] * (most - len(each))] for each in descriptions]
        tokens = self._tokenizer(
            [text for each in texts for text in each],
            padding="max_length",
            max_length=self._context,
            truncation=True,  # a single word can be longer than the context
            return_tensors="pt",
        )
        pixels = torch.stack([each for each, _ in prepared])
        with torch.inference_mode():
            outputs = self._network(
                pixel_values=pixels.to(self._device, non_blocking=True),
                input_ids=tokens["input_ids"].to(self._device),
                attention_mask=tokens["attention_mask"].to(self._device),
            )
            scores = outputs.logits.sigmoid().cpu()
            boxes = outputs.pred_boxes.cpu()
        return [
            [found_above(boxes[i] * scale, scores[i, :, place], threshold) for place in range(len(each))]
            for i, ((_, scale), each) in enumerate(zip(prepared, descriptions, strict=True))
        ]

    def _fits(self, text: str) -> bool:
        # One token more than fits tells, and the tokenizer does not warn.
        return len(self._tokenizer(text, truncation=True, max_length=self._context + 1)["input_ids"]) <= self._context
