"""The three stages that an MLLM answers: a caption, the primary subject, and what can be seen of it (GRAIN's way)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from PIL.Image import Image

from recognizer.images import DecodedImage, ImageItem
from recognizer.settings import RerankSettings
from rerank.base import GAVE_UP
from rerank.mllm import Failure, Mllm, MllmUnavailable, Scorer
from rerank.written import WriteQuestion, Writer
from training.annotation.inputs import BareImage, subject_key
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
                load=image.copy,
            )
            for place, (question, image) in enumerate(zip(questions, prepared, strict=True))
        ]
        return [
            Failed(answer.status, is_last=answer.status == GAVE_UP) if isinstance(answer, Failure) else answer
            for answer in self.writer.write(asked)
        ]


def open_writer(
    settings: RerankSettings, *, warn: Callable[[str], None] | None = None, mllm: Mllm | Scorer | None = None
) -> Writer:
    """Open the MLLM that the settings name.

    Args:
        settings: with a model.
        warn: called with a sentence about failures; it may hold foreign text, not escaped.
        mllm: an open one, in place of the one that the settings name.

    Raises:
        MllmUnavailable: it cannot be opened, or is a reranker, which writes nothing.
    """
    from rerank.backends import BackendOptions, open_mllm

    names = {option.name for option in fields(BackendOptions)} - {"one_token"}
    options = BackendOptions(one_token=False, **settings.model_dump(include=names))
    opened = mllm or open_mllm(settings.model or "", options, backend=settings.backend, warn=warn)
    if isinstance(opened, Scorer):
        opened.close()
        raise MllmUnavailable(f"{settings.model} is a reranker, which writes no text; name a multimodal LLM")
    # Without a cache: the stages store the replies.
    return Writer(opened, image_size=settings.image_size, give_up_after=settings.give_up_after, warn=warn)


def asking_stages(
    writer: Writer,
    *,
    image_size: int,
    batch_size: int | None = None,
    known: Mapping[str, Sequence[str]] | None = None,
) -> list[Stage]:
    """Make the three stages.

    Args:
        writer: asks the MLLM.
        image_size: longest side in pixels of what the MLLM sees.
        batch_size: images per batch; None: what keeps the MLLM busy.
        known: descriptions by subject, see `inputs.read_descriptions`; such subjects are not asked about.
    """
    size = batch_size or 2 * writer.mllm.parallel
    return [
        AskingStage(CAPTION_STAGE, CAPTION, lambda image, earlier: "", writer, image_size, size),
        AskingStage(
            SUBJECT_STAGE, SUBJECT, lambda image, earlier: None if image.subject else "", writer, image_size, size
        ),
        AskingStage(FEATURES_STAGE, FEATURES, partial(_to_describe, known or {}), writer, image_size, size),
    ]


def subject_of(image: BareImage, earlier: Mapping[str, Json], counts: Counter[str]) -> str | None:
    """Return the subject of an image: its own, else the one that the MLLM named."""
    if image.subject:
        return image.subject
    return read_subject(earlier[SUBJECT_STAGE], counts) if SUBJECT_STAGE in earlier else None


def _to_describe(known: Mapping[str, Sequence[str]], image: BareImage, earlier: Mapping[str, Json]) -> str | None:
    """Return the subject that is to be described, where there is one without descriptions."""
    subject = subject_of(image, earlier, Counter())
    return None if image.descriptions or subject is None or subject_key(subject) in known else subject
