"""The texts of one image, from what came with it and what the stages found; pure functions, used by stages and output.

Descriptions are those that came with the image, else those of a file for its subject, else the MLLM's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from training.annotation.asking import CAPTION_STAGE, FEATURES_STAGE, subject_of
from training.annotation.gates import SCORE_STAGE, Gates, above_mean, without_near_duplicates
from training.annotation.inputs import BareImage, subject_key
from training.annotation.replies import read_caption, read_features
from training.annotation.stage import Json
from training.annotation.words import clean_all

Results = Mapping[str, Json]
MOST_DESCRIPTIONS = 10
"""Of an image, its subject not counted; GRAIN's detector takes ten."""


@dataclass(frozen=True, slots=True)
class TextRules:
    """What decides which texts an image has.

    Attributes:
        known: descriptions by subject, see `inputs.read_descriptions`.
        gates: bounds of descriptions.
    """

    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    gates: Gates = field(default_factory=Gates)

    def captions(self, image: BareImage, results: Results, counts: Counter[str]) -> list[str]:
        """Return those that came with the image, then the MLLM's; an image with neither has its subject."""
        captions = list(image.captions)
        if CAPTION_STAGE in results and (written := read_caption(results[CAPTION_STAGE], counts)):
            captions.append(written)
        if not captions and (subject := subject_of(image, results, Counter())):
            counts["caption: the subject"] += 1
            captions.append(subject)
        return captions

    def to_score(self, image: BareImage, results: Results, counts: Counter[str] | None = None) -> list[str]:
        """Return the descriptions of an image, cleaned and without near-duplicates; its subject is not one of them."""
        counts = Counter() if counts is None else counts
        subject = subject_of(image, results, counts)
        if image.descriptions:
            written: Sequence[str] = image.descriptions
        elif subject is not None and subject_key(subject) in self.known:
            written = self.known[subject_key(subject)]
        elif FEATURES_STAGE in results:
            written = read_features(results[FEATURES_STAGE], counts)
        else:
            written = ()
        if subject is not None and not written:
            counts["subject without descriptions"] += 1
        texts = clean_all(written, counts)
        if len(texts) > MOST_DESCRIPTIONS:
            counts[f"description beyond the first {MOST_DESCRIPTIONS}"] += len(texts) - MOST_DESCRIPTIONS
        texts = without_near_duplicates(texts[:MOST_DESCRIPTIONS], self.gates, counts)
        return [text for text in texts if subject is None or text.casefold() != subject.casefold()]

    def to_detect(self, image: BareImage, results: Results, counts: Counter[str] | None = None) -> list[str]:
        """Return the texts whose boxes are wanted: the subject, then the descriptions that pass the gates."""
        counts = Counter() if counts is None else counts
        texts = above_mean(self.to_score(image, results, counts), results.get(SCORE_STAGE) or None, counts)
        subject = subject_of(image, results, Counter())
        return texts if subject is None else [subject, *texts]
