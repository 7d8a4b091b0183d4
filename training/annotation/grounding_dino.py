"""Grounding DINO (arXiv 2303.05499) through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recognizer.images import DecodedImage, ImageItem
from training.annotation.detector import Found, found_above, load_network
from training.annotation.words import shorten


class GroundingDinoDetector:
    """Detects descriptions with Grounding DINO.

    All descriptions of an image are one text with a full stop after each, between which the model does not attend. The
    score of a description is the highest sigmoid among its own tokens, as in the paper's demonstration.

    Args:
        model: directory or hub name.
        revision: commit of a hub model.
        device: where it computes, in float32: box coordinates lose pixels in fewer bits.
    """

    def __init__(self, model: str, *, revision: str | None, device: torch.device) -> None:
        """Load processor and weights."""
        from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

        processor, network, weights = load_network(
            GroundingDinoProcessor, GroundingDinoForObjectDetection, model, revision=revision, device=device
        )
        self._images: Any = processor.image_processor
        self._tokenizer: Any = processor.tokenizer
        self._network, self._device = network, device
        self._context: int = network.config.max_text_len
        (self._stop,) = self._ids(".")
        self.name = model
        self.identity = f"grounding-dino {weights} float32"
        # Sides differ between images, so a JPEG is decoded with both at least as long as the shorter one may be.
        size = self._images.size["shortest_edge"]
        self.input_size_hw: tuple[int, int] | None = size, size

    def shortened(self, descriptions: Sequence[str]) -> list[str]:
        """Shorten each text to its share of the context; full stops and question marks would end it early."""
        texts = [text.replace(".", " ").replace("?", " ").lower() for text in descriptions]
        # Of the context, beginning and end take two tokens, and the full stop after each text one.
        most = (self._context - 2) // max(len(texts), 1) - 1
        if sum(len(self._ids(text)) + 1 for text in texts) <= self._context - 2:
            return texts
        return [shorten(text, lambda text: len(self._ids(text)) <= most) for text in texts]

    def prepare(self, item: ImageItem, decoded: DecodedImage) -> tuple[Tensor, tuple[int, int]]:
        """Return (3, H, W) pixels, and height and width of the displayed image."""
        pixels = self._images(images=decoded.image, return_tensors="pt")["pixel_values"][0]
        return pixels, decoded.displayed_size_hw

    def detect(
        self,
        prepared: Sequence[tuple[Tensor, tuple[int, int]]],
        descriptions: Sequence[Sequence[str]],
        threshold: float,
    ) -> list[list[Found]]:
        """See `Detector`."""
        pixels, pixel_mask = _padded([each for each, _ in prepared])
        rows, spans = zip(*(self._row(each) for each in descriptions), strict=True)
        ids = torch.full((len(rows), max(map(len, rows))), self._tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        with torch.inference_mode():
            outputs = self._network(
                pixel_values=pixels.to(self._device),
                pixel_mask=pixel_mask.to(self._device),
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                token_type_ids=torch.zeros_like(ids).to(self._device),
            )
            probabilities = outputs.logits.sigmoid().cpu()
            boxes = outputs.pred_boxes.cpu()
        found = []
        for i, ((_, (height, width)), of_image) in enumerate(zip(prepared, spans, strict=True)):
            pixel_boxes = boxes[i] * torch.tensor([width, height, width, height])
            found.append(
                [found_above(pixel_boxes, probabilities[i, :, start:end].amax(1), threshold) for start, end in of_image]
            )
        return found

    def _row(self, descriptions: Sequence[str]) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the tokens of one image, and where those of each description begin and end."""
        ids, spans = [self._tokenizer.cls_token_id], []
        # As in `shortened`; here it cuts what cannot be shortened at a word, and leaves each text one token.
        most = max(1, (self._context - 2) // len(descriptions) - 1)
        room = self._context - 2 - len(descriptions)
        tokens = [self._ids(text) or [self._stop] for text in descriptions]
        if sum(map(len, tokens)) > room:
            tokens = [each[:most] for each in tokens]
        for each in tokens:
            spans.append((len(ids), len(ids) + len(each)))
            ids += [*each, self._stop]
        return [*ids, self._tokenizer.sep_token_id], spans

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _padded(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad (3, H, W) images below and at the right to one size; returns them and (B, H, W) with 1 on their pixels."""
    height, width = (max(image.shape[side] for image in images) for side in (1, 2))
    margins = [(0, width - image.shape[2], 0, height - image.shape[1]) for image in images]
    pixels = torch.stack([F.pad(image, margin) for image, margin in zip(images, margins, strict=True)])
    masks = [F.pad(torch.ones(image.shape[1:], dtype=torch.int64), m) for image, m in zip(images, margins, strict=True)]
    return pixels, torch.stack(masks)
