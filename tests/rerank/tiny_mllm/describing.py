"""What the tiny model says of its ten pictures: a caption, the primary subject, and two visible features of it.

It is asked with the prompts of `training.annotation` and answers in JSON with the keys of their schemas.
"""

from __future__ import annotations

import json
import random

from rerank.prompt import NAME_CHARACTERS, quoted
from tests.rerank.tiny_mllm.pictures import CAPTIONS, FEATURES, NAMES, WORDS

CAPTION_PROMPT = 'Describe the image in one sentence. Answer as JSON: {"caption": "..."}'
SUBJECT_PROMPT = 'What is the primary subject of the image? Name it in a few words. Answer as JSON: {"subject": "..."}'
FEATURES_PROMPT = (
    "What can be seen of this SUBJECT that helps to identify it? Write short visible features. "
    'Answer as JSON: {"features": ["...", "..."]}'
)
CHANGED = 0.15
"""Share of the words of a prompt that a lesson drops or replaces, so that the model bears a change of wording."""


def caption_question(name: str) -> tuple[str, str]:
    """Return prompt and answer for a picture."""
    return CAPTION_PROMPT, json.dumps({"caption": CAPTIONS[name]})


def subject_question(name: str) -> tuple[str, str]:
    """Return prompt and answer for a picture."""
    return SUBJECT_PROMPT, json.dumps({"subject": name})


def features_question(name: str, subject: str) -> tuple[str, str]:
    """Return prompt and answer for a picture, whatever subject the prompt names."""
    return FEATURES_PROMPT.replace("SUBJECT", quoted(subject, NAME_CHARACTERS)), json.dumps(
        {"features": list(FEATURES[name])}
    )


def draw_question(rng: random.Random, name: str) -> tuple[str, str]:
    """Draw one of the three questions about a picture, its wording changed in half of the cases."""
    subject = name if rng.random() < 0.8 else rng.choice((*NAMES, *WORDS))
    prompt, answer = rng.choice((caption_question(name), subject_question(name), features_question(name, subject)))
    return (prompt if rng.random() < 0.5 else changed(prompt, rng)), answer


def changed(prompt: str, rng: random.Random) -> str:
    """Drop or replace some words of a prompt; its JSON stays as it is."""
    head, brace, form = prompt.partition("{")
    words = [word if rng.random() >= CHANGED else rng.choice(("", rng.choice(WORDS))) for word in head.split(" ")]
    return " ".join(word for word in words if word) + " " + brace + form
