"""What an MLLM is asked about an image, and how its replies are read: JSON if they are, else the text itself.

Replies are stored as written and read when they are used, so a better reader needs no new question. Nothing that a
model writes is an error: a reply without use is counted under a reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from recognizer.describing.questions import read_answer
from training.annotation.words import as_unicode, clean

CAPTION_PROMPT: Final = (
    "Write one sentence that says what this image shows: the things in it, what they look like, and where they are. "
    'Answer with JSON: {"caption": "..."}'
)
SUBJECT_PROMPT: Final = (
    "What is the primary subject of this image? Answer with its common name, in at most four words, or with none if "
    'there is no subject. Answer with JSON: {"subject": "..."}'
)
# GRAIN asks "What are some visual features of this bird that would help identify it?" and gets dash bullets.
FEATURES_PROMPT: Final = (
    "What can be seen of this SUBJECT that helps to identify it? Give three to eight short descriptions of visible "
    'parts, such as "long curved beak". Answer with JSON: {"descriptions": ["...", "..."]}'
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One kind of question.

    Attributes:
        text: with SUBJECT where the subject stands.
        schema: JSON schema of the reply.
        max_tokens: after which it is cut off.
    """

    text: str
    schema: Mapping[str, Any]
    max_tokens: int


def _schema(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}


# The limits of tokens are about twice what a good reply takes; a rambling one is cut off.
CAPTION: Final = Prompt(CAPTION_PROMPT, _schema("caption", {"type": "string"}), 120)
SUBJECT: Final = Prompt(SUBJECT_PROMPT, _schema("subject", {"type": "string"}), 24)
FEATURES: Final = Prompt(
    FEATURES_PROMPT,
    _schema("descriptions", {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 8}),
    200,
)

_REFUSAL = re.compile(
    r"\W*(?:i['’]?m sorry|i am sorry|sorry|i can(?:no|['’])t|i am unable|i['’]m unable|unfortunately|as an ai)\b",
    re.IGNORECASE,
)
_NO_SUBJECT = frozenset(["none", "no subject", "nothing", "unknown", "n/a", "not applicable", "unclear", "null"])
_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
_MOST_CAPTION_WORDS = 80  # of CLIP's 77 tokens few would be left for more
_MOST_SUBJECT_WORDS = 6


def read_caption(reply: str, counts: Counter[str]) -> str | None:
    """Read a caption: one passage in one line."""
    text = _value(reply, "caption")
    caption = " ".join(as_unicode(text).split()) if isinstance(text, str) else ""
    if _REFUSAL.match(caption):
        counts["caption: refused"] += 1
    elif not caption or caption.startswith("{"):
        counts["caption: unreadable reply"] += 1
    elif len(caption.split()) > _MOST_CAPTION_WORDS:
        counts[f"caption: more than {_MOST_CAPTION_WORDS} words"] += 1
    else:
        return caption
    return None


def read_subject(reply: str, counts: Counter[str]) -> str | None:
    """Read a subject: some words without article, in one line."""
    text = _value(reply, "subject")
    subject = _ARTICLE.sub("", clean(text)) if isinstance(text, str) else ""
    if _REFUSAL.match(subject):
        counts["subject: refused"] += 1
    elif subject.casefold() in _NO_SUBJECT:
        counts["image without a subject"] += 1
    elif not re.search(r"\w", subject) or subject.startswith("{"):
        counts["subject: unreadable reply"] += 1
    elif len(subject.split()) > _MOST_SUBJECT_WORDS:
        counts[f"subject: more than {_MOST_SUBJECT_WORDS} words"] += 1
    else:
        return subject
    return None


def read_features(reply: str, counts: Counter[str]) -> list[str]:
    """Read descriptions, not cleaned, as those of categories are read."""
    found = read_answer(reply)
    if not found:
        counts["descriptions: refused" if _REFUSAL.match(reply) else "descriptions: unreadable reply"] += 1
    return found


def _value(reply: str, name: str) -> object:
    """Return the named value of a reply's JSON object, or the whole reply if it has none."""
    start, end = reply.find("{"), reply.rfind("}")
    if start >= 0 and end > start:
        try:
            value = json.loads(reply[start : end + 1])
        except (ValueError, RecursionError):
            return reply
        if isinstance(value, dict) and name in value:
            return value[name]
    return reply
