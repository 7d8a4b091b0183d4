"""Describe the categories of a label file, and write what came of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from memory import Category, Description
from memory.durable import replacing
from memory.errors import printable
from memory.wording import counted
from recognizer.describing.cleaning import clean
from recognizer.describing.sources import Draft
from recognizer.errors import RecognizerError

# Below this a category is described poorly, and counted.
FEWEST = 3
NOTHING_LEFT = "nothing left after cleaning"
NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Described:
    """The categories with what a source says about them.

    Attributes:
        categories: (C) in the order of the label file, each with the source's descriptions and no others.
        dropped: descriptions that cleaning dropped, by reason.
        problems: names of the categories without a description, by reason.
        answers: what the language model answered about the first of these, by reason, where it answered.
    """

    categories: Sequence[Category]
    dropped: Counter[str]
    problems: Mapping[str, Sequence[str]]
    answers: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Yield what is to be said about it, a sentence each."""
        counts = [len(category.descriptions) for category in self.categories]
        described = sum(count > 0 for count in counts)
        few = sum(0 < count < FEWEST for count in counts)
        yield (
            f"{described} of {counted(len(counts), 'category')} described ({described / len(counts):.1%}), by "
            f"{counted(sum(counts), 'description')}{f'; {few} with fewer than {FEWEST}' if few else ''}"
        )
        if self.dropped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
            yield f"descriptions left out: {reasons}"
        for problem, names in self.problems.items():
            shown = ", ".join(repr(printable(name, 40)) for name in names[:NAMES_SHOWN])
            answer = f"; the first answer is {printable(self.answers[problem])!r}" if problem in self.answers else ""
            yield f"{counted(len(names), 'category')} without: {problem}, such as {shown}{answer}"


def described(categories: Sequence[Category], drafts: Sequence[Draft], source: str) -> Described:
    """Clean the drafts and put them in the place of the categories' descriptions.

    Args:
        categories: (C) of the label file.
        drafts: (C) of the source.
        source: its name, stored with every description.
    """
    dropped: Counter[str] = Counter()
    problems: dict[str, list[str]] = {}
    answers: dict[str, str] = {}
    done = []
    for category, draft in zip(categories, drafts, strict=True):
        cleaned = clean(draft.texts, category)
        dropped += cleaned.dropped
        if not cleaned.texts:
            problems.setdefault(draft.problem or NOTHING_LEFT, []).append(category.name)
            if draft.answer:
                answers.setdefault(draft.problem, draft.answer)
        texts = tuple(Description(text, "attribute", source) for text in cleaned.texts)
        done.append(replace(category, descriptions=texts))
    return Described(done, dropped, problems, answers)


def check_output(path: Path, categories: Sequence[Category]) -> None:
    """Refuse, before any work starts, a file that could not hold the categories.

    Raises:
        RecognizerError: the suffix is neither .json nor .jsonl, or equal names of two groups are to be keys of JSON.
    """
    if path.suffix not in (".json", ".jsonl"):
        raise RecognizerError(f"{path}: descriptions are written as .json (by name) or .jsonl (with groups); name one")
    if path.suffix == ".json":
        name, count = Counter(category.name for category in categories).most_common(1)[0]
        if count > 1:
            raise RecognizerError(
                f"{path}: the name {printable(name)!r} is in {counted(count, 'group')}, which JSON by name cannot tell "
                "apart; give a file that ends in .jsonl"
            )


def write_described(categories: Sequence[Category], path: Path) -> None:
    """Write descriptions as `{name: [texts]}` (.json) or a line per category with all that is known of it (.jsonl).

    Raises:
        WriteFailed: the disk refuses.
    """
    if path.suffix == ".json":
        texts = {category.name: [each.text for each in category.descriptions] for category in categories}
        content = json.dumps(texts, ensure_ascii=False, indent=1) + "\n"
    else:
        content = "".join(json.dumps(_record(category), ensure_ascii=False) + "\n" for category in categories)
    with replacing(path) as draft:
        draft.write_text(content, encoding="utf-8", newline="\n")


def _record(category: Category) -> dict[str, object]:
    return {
        "name": category.name,
        "group": category.group,
        "descriptions": [{"text": d.text, "kind": d.kind, "source": d.source} for d in category.descriptions],
        "aliases": list(category.aliases),
        "metadata": dict(category.metadata),
    }
