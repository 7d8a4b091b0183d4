"""The three stages that an MLLM answers: a caption, the primary subject, and what can be seen of it (GRAIN's way)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from recognizer.images import DecodedImage, ImageItem
from rerank.base import GAVE_UP
from rerank.mllm import Failure
from rerank.written import Writer, WriteQuestion
from training.annotation.inputs import BareImage
from training.annotation.replies import CAPTION, FEATURES, SUBJECT, Prompt, read_subject
from training.annotation.stage import Failed, Json, Stage

CAPTION_STAGE, SUBJECT_STAGE, FEATURES_STAGE = "caption", "subject", "descriptions"
AskedAbout = Callable[[BareImage, Mapping[str, Json]], str | None]


@dataclass(frozen=True, slots=True)
class AskingStage:
    """Asks one prompt about each image; the result is the reply as written.

    Attributes:
        name: see `Stage`.
        prompt: what is asked.
        asked_about: returns the subject that the prompt names, "" where it names none; None: nothing is asked.
        writer: asks the MLLM.
        image_size: longest side in pixels of what it sees.
        batch_size: see `Stage`.
    """

    name: str
    prompt: Prompt
    asked_about: AskedAbout
    writer: Writer
    image_size: int
    batch_size: int

    @property
    def settings(self) -> Mapping[str, Json]:
        """Model, prompt and the size of images."""
        return {
            "model": self.writer.mllm.identity,
            "prompt": self.prompt.text,
            "schema": dict(self.prompt.schema),
            "max_tokens": self.prompt.max_tokens,
            "image_size": self.image_size,
        }

    @property
    def target_size_hw(self) -> tuple[int, int]:
        """See `Stage`."""
        return self.image_size, self.image_size

    def question(self, image: BareImage, earlier: Mapping[str, Json]) -> Json:
        """See `Stage`."""
        return self.asked_about(image, earlier)

    def prepare(self, item: ImageItem, decoded: DecodedImage, question: Json) -> Image:
        """See `Stage`."""
        image = decoded.image
        image.thumbnail((self.image_size, self.image_size))
        return image

    def answer(self, questions: Sequence[Json], prepared: Sequence[Any]) -> list[Json | Failed]:
        """See `Stage`."""
        asked = [
            WriteQuestion(
                self.prompt.text.replace("SUBJECT", question),
                self.prompt.max_tokens,
                self.prompt.schema,
                image_sha256=str(place),  # the writer has no cache, and equal images are asked about once already
                load=lambda image=image: image,
            )
            for place, (question, image) in enumerate(zip(questions, prepared, strict=True))
        ]
        return [
            Failed(answer.status, is_last=answer.status == GAVE_UP) if isinstance(answer, Failure) else answer
            for answer in self.writer.write(asked)
        ]


def asking_stages(writer: Writer, *, image_size: int, batch_size: int | None = None) -> list[Stage]:
    """Make the three stages.

    Args:
        writer: asks the MLLM, without a cache, for results are stored by the stages.
        image_size: longest side in pixels of what the MLLM sees.
        batch_size: images per batch; None: what keeps the MLLM busy.
    """
    size = batch_size or 2 * writer.mllm.parallel
    return [
        AskingStage(CAPTION_STAGE, CAPTION, lambda image, earlier: "", writer, image_size, size),
        AskingStage(
            SUBJECT_STAGE, SUBJECT, lambda image, earlier: None if image.subject else "", writer, image_size, size
        ),
        AskingStage(FEATURES_STAGE, FEATURES, _to_describe, writer, image_size, size),
    ]


def subject_of(image: BareImage, earlier: Mapping[str, Json], counts: Counter[str]) -> str | None:
    """Return the subject of an image: its own, else the one that the MLLM named."""
    if image.subject:
        return image.subject
    return read_subject(earlier[SUBJECT_STAGE], counts) if SUBJECT_STAGE in earlier else None


def _to_describe(image: BareImage, earlier: Mapping[str, Json]) -> str | None:
    """Return the subject that is to be described; descriptions that came with the image are not asked for again."""
    return None if image.descriptions else subject_of(image, earlier, Counter())
