"""Gates: which descriptions and boxes are left out, and the stage in which an encoder scores descriptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recognizer.encoder import Encoder
from recognizer.encoder.preprocessing import stacked
from recognizer.images import DecodedImage, ImageItem
from training.annotation.inputs import BareImage
from training.annotation.stage import Failed, Json
from training.annotation.words import word_overlap

SCORE_STAGE = "scores"
_SCORE_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Gates:
    """Bounds beyond which a description or a box is left out; None: no bound.

    Attributes:
        max_overlap: share of common words at which a description is a near-duplicate of one before it.
        max_area: share of the image's area that a box may cover.

    Raises:
        ValueError: a bound is not above 0 and at most 1.
    """

    max_overlap: float | None = None
    max_area: float | None = None

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name, value in asdict(self).items():
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} is {value:g}; give a share above 0 and at most 1")


def without_near_duplicates(descriptions: Sequence[str], gates: Gates, counts: Counter[str]) -> list[str]:
    """Leave out descriptions that share too many words with one before them."""
    kept: list[str] = []
    for text in descriptions:
        if gates.max_overlap is not None and any(word_overlap(text, other) >= gates.max_overlap for other in kept):
            counts["near-duplicate description"] += 1
        else:
            kept.append(text)
    return kept


def above_mean(descriptions: Sequence[str], scores: Sequence[float] | None, counts: Counter[str]) -> list[str]:
    """Leave out descriptions whose score is below the mean of those of their image.

    Args:
        descriptions: (N) of one image.
        scores: (N); None: nothing is left out.
        counts: increased by what is left out.
    """
    if scores is None:
        return list(descriptions)
    # Scores are rounded: equal ones must not fall below their own mean.
    bound = float(np.mean(scores)) - 10**-_SCORE_DIGITS / 2
    kept = [text for text, score in zip(descriptions, scores, strict=True) if score >= bound]
    counts["description scored below the image's mean"] += len(descriptions) - len(kept)
    return kept


def is_too_large(box_xyxy: Sequence[float], size_hw: tuple[int, int], gates: Gates) -> bool:
    """Tell whether a box covers more of the image than it may."""
    if gates.max_area is None:
        return False
    x0, y0, x1, y1 = box_xyxy
    return (x1 - x0) * (y1 - y0) > gates.max_area * size_hw[0] * size_hw[1]


@dataclass(frozen=True, slots=True)
class ScoreStage:
    """Scores the descriptions of each image by their cosine with the whole image.

    Attributes:
        encoder: encodes both.
        phrases: returns the descriptions of an image, from its texts and the earlier results.
        batch_size: see `Stage`.
        name: see `Stage`.
    """

    encoder: Encoder
    phrases: Callable[[BareImage, Mapping[str, Json]], Sequence[str]]
    batch_size: int = 32
    name: str = SCORE_STAGE

    @property
    def settings(self) -> Mapping[str, Json]:
        """The encoder."""
        card = self.encoder.card
        return {"model": card.name, "fingerprint": card.fingerprint, "precision": card.precision}

    @property
    def target_size_hw(self) -> tuple[int, int]:
        """See `Stage`."""
        return self.encoder.input_size_hw

    def question(self, image: BareImage, earlier: Mapping[str, Json]) -> Json:
        """See `Stage`."""
        return list(self.phrases(image, earlier)) or None

    def prepare(self, item: ImageItem, decoded: DecodedImage, question: Json) -> object:
        """See `Stage`."""
        return self.encoder.preprocess(decoded.image, decoded.displayed_size_hw)

    def answer(self, questions: Sequence[Json], prepared: Sequence[Any]) -> list[Json | Failed]:
        """See `Stage`."""
        pixels = stacked([each for each, _ in prepared])
        images = self.encoder.encode_pixels(pixels, [frame for _, frame in prepared]).image
        texts = self.encoder.encode_texts([text for of_image in questions for text in of_image])
        ends = np.cumsum([len(of_image) for of_image in questions])[:-1]
        return [
            [round(float(score), _SCORE_DIGITS) for score in of_image @ image]
            for of_image, image in zip(np.split(texts, ends), images, strict=True)
        ]
