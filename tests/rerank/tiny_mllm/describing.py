"""What the tiny model says of its ten pictures: a caption, the primary subject, and two visible features of it.

It is asked with the prompts of `training.annotation` and answers in JSON that their schemas allow.
"""

from __future__ import annotations

import json
import random

from tests.rerank.tiny_mllm.pictures import CAPTIONS, FEATURES, NAMES, WORDS
from training.annotation.replies import CAPTION, SUBJECT, Prompt
from training.annotation.replies import FEATURES as FEATURES_PROMPT

# Share of the words of a prompt that a lesson drops or replaces: the model then bears a small change of the wording.
CHANGED = 0.1


def caption_question(name: str) -> tuple[str, str]:
    """Return prompt and answer for a picture."""
    return CAPTION.text, answer(CAPTION, CAPTIONS[name])


def subject_question(name: str) -> tuple[str, str]:
    """Return prompt and answer for a picture."""
    return SUBJECT.text, answer(SUBJECT, name)


def features_question(name: str, subject: str) -> tuple[str, str]:
    """Return prompt and answer for a picture, whatever subject the prompt names."""
    return FEATURES_PROMPT.text.replace("SUBJECT", subject), answer(FEATURES_PROMPT, FEATURES[name])


def answer(prompt: Prompt, value: object) -> str:
    """Write a value as the only one that the schema of a prompt has."""
    (key,) = prompt.schema["required"]
    return json.dumps({key: value})


def draw_question(rng: random.Random, name: str) -> tuple[str, str]:
    """Draw one of the three questions about a picture, its wording changed in half of the cases."""
    subject = name if rng.random() < 0.8 else rng.choice((*NAMES, *WORDS))
    prompt, reply = rng.choice((caption_question(name), subject_question(name), features_question(name, subject)))
    return (prompt if rng.random() < 0.5 else changed(prompt, rng)), reply


def changed(prompt: str, rng: random.Random) -> str:
    """Drop or replace some words of a prompt; the JSON at its end stays as it is."""
    head, brace, form = prompt.partition("{")
    words = [word if rng.random() >= CHANGED else rng.choice(("", rng.choice(WORDS))) for word in head.split()]
    return " ".join(word for word in words if word) + " " + brace + form
