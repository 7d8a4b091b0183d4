"""What an MLLM calls the things in images, when no names are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from recognizer.console import note, progress_bar
from recognizer.describing.questions import THOUGHT_END
from recognizer.describing.sources import side_by_side
from recognizer.errors import RecognizerError
from recognizer.images import ImageItem
from rerank.written import WriteQuestion

if TYPE_CHECKING:
    from PIL.Image import Image

    from rerank.written import Writer

QUESTION = (
    "What {kind} does the image show? Answer with its most specific common name alone, one to five words, and nothing "
    "else."
)
# A name of five words; a sentence is longer.
MOST_CHARACTERS = 60
MAX_TOKENS = 40
_IMAGE_SIZE = 768  # longest side in pixels, the default of what an MLLM sees


def written_names(writer: Writer, items: Sequence[ImageItem], hashes: Sequence[str], kind: str | None) -> list[str]:
    """Return the distinct names that an MLLM gives to images, in the order of the first image of each.

    Args:
        writer: of the answers; what is in its cache is not asked again.
        items: (N) the images.
        hashes: (N) SHA-256 of their files.
        kind: what all of them show, such as "bird"; None: anything.

    Raises:
        RecognizerError: not one image has a name.
    """
    text = QUESTION.format(kind=kind or "thing")
    questions = [
        WriteQuestion(text, MAX_TOKENS, image_sha256=digest, load=_loader(item))
        for item, digest in zip(items, hashes, strict=True)
    ]
    with progress_bar(len(items), "images", "name") as advance:
        answers = writer.write(questions)
        advance(len(items))
    names = [read_name(answer) if isinstance(answer, str) else "" for answer in answers]
    if nameless := names.count(""):
        note(f"warning: {writer.mllm.name} gave no name for {nameless} of {len(names)} images")
    distinct: dict[str, str] = {}
    for name in filter(None, names):
        distinct.setdefault(name.casefold(), name)
    if not distinct:
        raise RecognizerError(f"{writer.mllm.name} named none of {len(names)} images")
    return list(distinct.values())


def read_name(answer: str) -> str:
    """Read the name off an answer: its first line without quotes and full stop; empty for a sentence or nothing."""
    lines = [line.strip() for line in answer.rpartition(THOUGHT_END)[2].splitlines()]
    name = next((line for line in lines if line), "").strip("\"'“”*`. ")
    return name if len(name) <= MOST_CHARACTERS else ""


def _loader(item: ImageItem) -> Callable[[], Image]:
    return partial(side_by_side, [item], _IMAGE_SIZE)
