"""Three ways of asking about many images in one call.

An MLLM answers with one option letter per rotation, or with one written list; a reranker scores every candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rerank.base import Answer, Question
from rerank.choice import Rotations, combine_rotations, is_settled, normalised, rotated, rotation_starts
from rerank.counts import RerankCounts
from rerank.mllm import (
    LOWEST_LOG_PROB,
    SYMBOLS,
    Choice,
    ChoiceRequest,
    Failure,
    Mllm,
    Scorer,
    ScoreRequest,
    WriteRequest,
)
from rerank.parse import Unreadable, parse_list
from rerank.prompt import NAME_CHARACTERS, choice_text, list_text, scored_text, shown

# Generous for a name as the prompt shows it, with its quotes; a list is cut off after that many tokens per option.
TOKENS_PER_NAME = 24
# A score is a sigmoid in single precision, which cannot tell higher ones from 1; their logit would be infinite.
MOST_SCORE = 1 - 1e-7


def ask_by_choice(
    mllm: Mllm, questions: Sequence[Question], *, rotations: Rotations, descriptions: int, counts: RerankCounts
) -> list[Answer | Failure]:
    """Ask for one option symbol per rotation of the options, all rotations of all questions in one call.

    `auto` takes two calls: a few rotations of all questions, then all others of those that are not settled
    (`rerank.choice.is_settled`). A server gets the same two calls. The first is as large as a call of all rotations
    would be, for the caller puts more questions into it, and the second waits for the slowest answer once for all of
    them. Asking one rotation after the other would leave most of a server's slots empty.

    A question has an answer if at least one of its rotations has one.

    Args:
        mllm: the model to ask.
        questions: whose images are loaded and scaled; at most 20 candidates each.
        rotations: of the options, per question; None: as many as options; auto: as many as settle the first place.
        descriptions: shown per option, at most.
        counts: to which requests and tokens are added.
    """
    images = [question.load() for question in questions]
    replies: list[dict[int, Choice | Failure]] = [{} for _ in questions]

    def ask(starts: Sequence[Sequence[int]]) -> None:
        requests = []
        for question, image, begun in zip(questions, images, starts, strict=True):
            options = question.candidates
            for start in begun:
                text = choice_text([options[i] for i in rotated(len(options), start)], descriptions=descriptions)
                requests.append(ChoiceRequest(image, text, SYMBOLS[: len(options)]))
        answered = iter(mllm.choose(requests) if requests else [])
        for by_start, begun in zip(replies, starts, strict=True):
            by_start |= {start: _checked(next(answered)) for start in begun}

    ask([rotation_starts(len(question.candidates), rotations) for question in questions])
    if rotations == "auto":
        ask(
            [
                [start for start in rotation_starts(len(question.candidates)) if start not in by_start]
                if _is_open(by_start, len(question.candidates))
                else []
                for question, by_start in zip(questions, replies, strict=True)
            ]
        )
    answers: list[Answer | Failure] = []
    for question, by_start in zip(questions, replies, strict=True):
        for reply in by_start.values():
            counts.add_request(None if isinstance(reply, Failure) else reply.usage)
        choices = _answered(by_start)
        failures = [reply for reply in by_start.values() if isinstance(reply, Failure)]
        if not choices:
            answers.append(max(failures, key=lambda failure: failure.hopeless))
            continue
        log_probs = combine_rotations(list(choices), list(choices.values()), len(question.candidates))
        reasons = (f"{len(failures)} of {len(by_start)} rotations failed",) if failures else ()
        answers.append(Answer(tuple(log_probs.tolist()), reasons, len(failures)))
    return answers


def _answered(by_start: dict[int, Choice | Failure]) -> dict[int, Choice]:
    return {start: reply for start, reply in by_start.items() if not isinstance(reply, Failure)}


def _is_open(by_start: dict[int, Choice | Failure], count: int) -> bool:
    """Whether more rotations are needed, and may help: not where all failed, which counts as a failed image."""
    choices = _answered(by_start)
    if len(choices) < len(by_start):
        return bool(choices)
    return not is_settled(list(choices), list(choices.values()), count)


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
        WriteRequest(question.load(), list_text(question.candidates), TOKENS_PER_NAME * len(question.candidates))
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
