"""Three ways of asking about many images in one call.

An MLLM answers with one option letter per rotation, or with one written list; a reranker scores every candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rerank.base import Answer, Question
from rerank.choice import combine_rotations, normalised, rotated, rotation_starts
from rerank.counts import RerankCounts
from rerank.mllm import (
    LOWEST_LOG_PROB,
    SYMBOLS,
    Choice,
    ChoiceRequest,
    Failure,
    ListRequest,
    Mllm,
    Scorer,
    ScoreRequest,
)
from rerank.parse import Unreadable, parse_list
from rerank.prompt import NAME_CHARACTERS, choice_text, list_text, scored_text, shown

# Generous for a name as the prompt shows it, with its quotes; a list is cut off after that many tokens per option.
TOKENS_PER_NAME = 24
# A score is a sigmoid in single precision, which cannot tell higher ones from 1; their logit would be infinite.
MOST_SCORE = 1 - 1e-7


def ask_by_choice(
    mllm: Mllm, questions: Sequence[Question], *, rotations: int | None, descriptions: int, counts: RerankCounts
) -> list[Answer | Failure]:
    """Ask for one option symbol per rotation of the options, all rotations of all questions in one call.

    A question has an answer if at least one of its rotations has one.

    Args:
        mllm: the model to ask.
        questions: whose images are loaded and scaled; at most 20 candidates each.
        rotations: of the options, per question; None: as many as options.
        descriptions: shown per option, at most.
        counts: to which requests and tokens are added.
    """
    starts = [rotation_starts(len(question.candidates), rotations) for question in questions]
    requests = []
    for question, begun in zip(questions, starts, strict=True):
        image, options = question.load(), question.candidates
        for start in begun:
            text = choice_text([options[i] for i in rotated(len(options), start)], descriptions=descriptions)
            requests.append(ChoiceRequest(image, text, SYMBOLS[: len(options)]))
    replies = iter(mllm.choose(requests) if requests else [])
    answers: list[Answer | Failure] = []
    for question, begun in zip(questions, starts, strict=True):
        by_start = {start: _checked(next(replies)) for start in begun}
        choices = {start: reply for start, reply in by_start.items() if not isinstance(reply, Failure)}
        failures = [reply for reply in by_start.values() if isinstance(reply, Failure)]
        for reply in by_start.values():
            counts.add_request(None if isinstance(reply, Failure) else reply.usage)
        if not choices:
            answers.append(max(failures, key=lambda failure: failure.hopeless))
            continue
        log_probs = combine_rotations(list(choices), list(choices.values()), len(question.candidates))
        reasons = (f"{len(failures)} of {len(begun)} rotations failed",) if failures else ()
        answers.append(Answer(tuple(log_probs.tolist()), reasons, len(failures)))
    return answers


def _checked(reply: Choice | Failure) -> Choice | Failure:
    """Refuse log-probabilities that are not numbers, and raise the lowest ones, so that they can be averaged."""
    if isinstance(reply, Failure) or reply.log_probs is None:
        return reply
    # Rounding may put the logarithm of a probability of 1 a little above 0.
    if any(math.isnan(value) or value > 1e-3 for value in reply.log_probs):
        return Failure("unreadable: log-probabilities must be numbers of at most 0")
    return replace(reply, log_probs=tuple(max(value, LOWEST_LOG_PROB) for value in reply.log_probs))


def ask_by_list(mllm: Mllm, questions: Sequence[Question], *, counts: RerankCounts) -> list[Answer | Failure]:
    """Ask for a sorted list, RAR's way (arXiv 2403.13805, section 3.3), once per question.

    A list gives an order and no probabilities; the answer holds weights of 1 / place.

    Args:
        mllm: the model to ask.
        questions: whose images are loaded and scaled.
        counts: to which requests and tokens are added.
    """
    requests = [
        ListRequest(question.load(), list_text(question.candidates), TOKENS_PER_NAME * len(question.candidates))
        for question in questions
    ]
    answers: list[Answer | Failure] = []
    for question, reply in zip(questions, mllm.write(requests) if requests else [], strict=True):
        counts.add_request(None if isinstance(reply, Failure) else reply.usage)
        if isinstance(reply, Failure):
            answers.append(reply)
            continue
        parsed = parse_list(reply.text, [shown(candidate.title, NAME_CHARACTERS) for candidate in question.candidates])
        if isinstance(parsed, Unreadable):
            answers.append(Failure(f"unreadable: {parsed.reason}"))
            continue
        places = np.empty(len(parsed.order))
        places[list(parsed.order)] = np.arange(1, len(parsed.order) + 1)
        if parsed.reasons:
            counts.add_mended()
        answers.append(Answer(tuple(normalised(-np.log(places)).tolist()), parsed.reasons))
    return answers


def ask_by_score(
    scorer: Scorer, questions: Sequence[Question], *, descriptions: int, counts: RerankCounts
) -> list[Answer | Failure]:
    """Ask for a score of every candidate, once per question.

    A score s_i is the probability that candidate i fits, whatever the others do. Given that exactly one of them fits,
    candidate i does with a probability in proportion to s_i / (1 - s_i).

    Args:
        scorer: the reranker to ask.
        questions: whose images are loaded and scaled.
        descriptions: shown per candidate, at most.
        counts: to which requests and tokens are added.
    """
    requests = [
        ScoreRequest(
            question.load(),
            tuple(scored_text(candidate, descriptions=descriptions) for candidate in question.candidates),
        )
        for question in questions
    ]
    answers: list[Answer | Failure] = []
    for reply in scorer.score(requests) if requests else []:
        counts.add_request(None if isinstance(reply, Failure) else reply.usage)
        if isinstance(reply, Failure):
            answers.append(reply)
            continue
        scores = np.clip(np.asarray(reply.values, np.float64), 1 - MOST_SCORE, MOST_SCORE)
        answers.append(Answer(tuple(normalised(np.log(scores / (1 - scores))).tolist())))
    return answers
