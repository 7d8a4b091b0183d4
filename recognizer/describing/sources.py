"""Where descriptions come from: each source turns categories into drafts, one for each, in order.

WordNet needs no model but the text encoder. A language model is asked one question per category, with the category's
example images where they are wanted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from PIL import Image

from memory import Category
from memory.durable import file_sha256
from memory.templates import prompt_name
from recognizer.describing.confusing import confusable, name_vectors
from recognizer.describing.questions import MAX_TOKENS, SCHEMA, question_text, read_answer
from recognizer.describing.wordnet.nouns import Sense, nouns
from recognizer.describing.wordnet.phrases import phrases
from recognizer.describing.wordnet.senses import choose_senses, of_group
from recognizer.images import ImageError, ImageItem, ImageLimits
from recognizer.images.workers import WorkerPool
from rerank.careful import UNREADABLE_IMAGE
from rerank.mllm import Failure
from rerank.written import WriteQuestion, Writer

if TYPE_CHECKING:
    from recognizer.encoder import Encoder

NOT_FOUND = "no visible thing of that name in WordNet"
NO_LIST = "no list in the answer"
# Enough to tell what examples have in common; each gets a quarter of what the model sees.
EXAMPLES_SHOWN = 4
# Names that a question is contrasted with; more make it long, and the far ones tell nothing.
CONFUSED_WITH = 5
# Categories asked about at a time, so that progress shows; far more than any backend works on at once.
CATEGORIES = 256

Examples = Mapping[str, Sequence[ImageItem]]
"""Example images by id of the category."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a source has to say about one category.

    Attributes:
        texts: as they came.
        problem: why there are none; empty if there are some.
        answer: of the language model, where it holds none.
    """

    texts: tuple[str, ...] = ()
    problem: str = ""
    answer: str = ""


def wordnet_senses(categories: Sequence[Category], encoder: Encoder) -> list[Sense | None]:
    """Choose the meaning of each category in WordNet that fits the other categories; None where it has none.

    Args:
        categories: of one label file; names that are not found are looked up by their aliases.
        encoder: whose text encoder chooses the meanings.
    """
    table = nouns()
    found = [
        next(filter(None, (table.find(prompt_name(name)) for name in (category.name, *category.aliases))), None)
        for category in categories
    ]
    names = [prompt_name(category.name) for category in categories]
    groups = [category.group for category in categories]
    found = [
        entry if entry is None or not group else of_group(entry, group, table)
        for entry, group in zip(found, groups, strict=True)
    ]
    return choose_senses(names, groups, found, table, encoder.encode_texts)


def wordnet_drafts(categories: Sequence[Category], encoder: Encoder) -> list[Draft]:
    """Describe categories by the glosses of WordNet, in the meaning that fits the other categories.

    Args:
        categories: as in `wordnet_senses`.
        encoder: as in `wordnet_senses`.
    """
    return [
        Draft(problem=NOT_FOUND) if sense is None else Draft(tuple(phrases(sense, nouns())))
        for sense in wordnet_senses(categories, encoder)
    ]


def written_drafts(
    categories: Sequence[Category],
    encoder: Encoder,
    writer: Writer,
    *,
    examples: Examples | None = None,
    image_size: int = 768,
    progress: Callable[[int], None] | None = None,
) -> list[Draft]:
    """Ask a language model about each category, against the names that the text encoder confuses with it.

    Args:
        categories: of one label file.
        encoder: whose text encoder finds the names that are confused.
        writer: of the answers; what is in its cache is not asked again.
        examples: images to show; None: text alone. A category without images that can be read is asked about by text.
        image_size: longest side in pixels of the picture of examples.
        progress: called with the number of categories done since the last call.
    """
    near = confusable(name_vectors(categories, encoder), CONFUSED_WITH)
    drafts: list[Draft] = []
    for start in range(0, len(categories), CATEGORIES):
        part = range(start, min(start + CATEGORIES, len(categories)))

        def ask(rows: Sequence[int], shown: Examples) -> dict[int, str | Failure]:
            questions = [
                _question(categories[row], [categories[other] for other in near[row]], shown, image_size)
                for row in rows
            ]
            return dict(zip(rows, writer.write(questions), strict=True))

        answers = ask(part, examples or {})
        answers |= ask([row for row in part if _is_blind(answers[row])], {})
        drafts += [_draft(answers[row]) for row in part]
        if progress is not None:
            progress(len(part))
    return drafts


def _question(category: Category, others: Sequence[Category], examples: Examples, image_size: int) -> WriteQuestion:
    images = list(examples.get(category.id, ()))[:EXAMPLES_SHOWN]
    text = question_text(category, others, shown=bool(images))
    if not images:
        return WriteQuestion(text, MAX_TOKENS, SCHEMA)
    digest = hashlib.sha256("".join(map(_sha256, images)).encode()).hexdigest()
    return WriteQuestion(text, MAX_TOKENS, SCHEMA, digest, partial(side_by_side, images, image_size))


def _is_blind(answer: str | Failure) -> bool:
    """Tell whether no example image could be read."""
    return isinstance(answer, Failure) and answer.status.startswith(UNREADABLE_IMAGE)


def _sha256(item: ImageItem) -> str:
    """Return the SHA-256 of a file; of one that cannot be read its name, for it will not be shown."""
    try:
        return file_sha256(item.path)
    except OSError:
        return item.key


def _draft(answer: str | Failure) -> Draft:
    if isinstance(answer, Failure):
        return Draft(problem=answer.status)
    texts = tuple(read_answer(answer))
    return Draft(texts) if texts else Draft(problem=NO_LIST, answer=answer)


def side_by_side(items: Sequence[ImageItem], size: int) -> Image.Image:
    """Show up to four images in one picture: one alone, two beside each other, more in two rows.

    Args:
        items: the files; those that cannot be decoded are left out.
        size: longest side of the picture in pixels.

    Raises:
        OSError: none of them can be decoded.
    """
    side = size if len(items) == 1 else size // 2
    images: list[Image.Image] = []
    reason = ""
    for item in items:
        try:
            images.append(WorkerPool(1).decode(item.path, limits=ImageLimits(), target_size_hw=(side, side)).image)
        except ImageError as error:
            reason = f"{error.code}: {error.reason}"
    if not images:
        raise OSError(reason)
    for image in images:
        image.thumbnail((side, side))
    if len(images) == 1:
        return images[0]
    picture = Image.new("RGB", (2 * side, side * ((len(images) + 1) // 2)), (255, 255, 255))
    for place, image in enumerate(images):
        left, top = side * (place % 2), side * (place // 2)
        picture.paste(image, (left + (side - image.width) // 2, top + (side - image.height) // 2))
    return picture
