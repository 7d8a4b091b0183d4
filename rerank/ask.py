"""Asking about many images at once: all rotations of all of them in one call per round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from rerank.base import Candidate
from rerank.cache import Answer
from rerank.choice import (
    Floats,
    combine_rotations,
    finalists,
    groups,
    join_rounds,
    normalised,
    rotated,
    rotation_starts,
)
from rerank.counts import RerankCounts
from rerank.mllm import LOWEST_LOG_PROB, SYMBOLS, Choice, ChoiceRequest, Failure, ListRequest, Mllm
from rerank.parse import Unreadable, parse_list
from rerank.prompt import NAME_CHARACTERS, choice_text, list_text, shown

if TYPE_CHECKING:
    from PIL.Image import Image

# Generous for a name as the prompt shows it, with its quotes; a list is cut off after that many tokens per option.
TOKENS_PER_NAME = 24


@dataclass(frozen=True, slots=True)
class Asked:
    """An image, scaled, with its candidates."""

    image: Image
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and how many of the requests for it failed: an incomplete one is used and not kept."""

    answer: Answer
    failed: int = 0
    requests: int = 1

    @property
    def complete(self) -> bool:
        """Whether all requests succeeded."""
        return not self.failed

    def noted(self) -> Answer:
        """Return the answer; an incomplete one says so among its reasons."""
        if self.complete:
            return self.answer
        return replace(
            self.answer, reasons=(*self.answer.reasons, f"{self.failed} of {self.requests} rotations failed")
        )


class Method(Protocol):
    """A way of asking: an answer or a failure per image."""

    def __call__(
        self, mllm: Mllm, asked: Sequence[Asked], *, rotations: int | None, descriptions: int, counts: RerankCounts
    ) -> list[Answered | Failure]:
        """Ask about all images."""
        ...


@dataclass(frozen=True, slots=True)
class _Round:
    """Log-probabilities over the options of one group, or why there are none."""

    log_probs: Floats | Failure
    failed: int = 0
    requests: int = 0


def ask_by_choice(
    mllm: Mllm, asked: Sequence[Asked], *, rotations: int | None, descriptions: int, counts: RerankCounts
) -> list[Answered | Failure]:
    """Ask for one option symbol per rotation; beyond 20 options the best of each group meet in a second round.

    An image has an answer if at least one rotation of each of its groups has; it is incomplete if some failed.
    """

    def ask(parts: Sequence[tuple[Image, Sequence[Candidate]]]) -> list[_Round]:
        return _ask_rotations(mllm, parts, rotations=rotations, descriptions=descriptions, counts=counts)

    dealt = [groups(len(one.candidates)) for one in asked]
    first = iter(
        ask([(one.image, [one.candidates[i] for i in g]) for one, gs in zip(asked, dealt, strict=True) for g in gs])
    )
    in_groups = [[next(first) for _ in gs] for gs in dealt]
    finals: dict[int, list[int]] = {}
    for number, (gs, found) in enumerate(zip(dealt, in_groups, strict=True)):
        answers = [each.log_probs for each in found if not isinstance(each.log_probs, Failure)]
        if len(gs) > 1 and len(answers) == len(gs):
            finals[number] = finalists(gs, answers)
    second = dict(
        zip(
            finals,
            ask([(asked[number].image, [asked[number].candidates[i] for i in f]) for number, f in finals.items()]),
            strict=True,
        )
    )
    return [
        _joined(dealt[number], in_groups[number], finals.get(number), second.get(number))
        for number in range(len(asked))
    ]


def _joined(
    in_groups: Sequence[Sequence[int]], found: Sequence[_Round], final: Sequence[int] | None, last: _Round | None
) -> Answered | Failure:
    rounds = [*found, *([last] if last is not None else [])]
    failure = next((each.log_probs for each in rounds if isinstance(each.log_probs, Failure)), None)
    if failure is not None:
        return failure
    answers = [each.log_probs for each in rounds if not isinstance(each.log_probs, Failure)]
    log_probs = answers[0] if final is None else join_rounds(in_groups, answers[:-1], final, answers[-1])
    failed, requests = sum(each.failed for each in rounds), sum(each.requests for each in rounds)
    return Answered(Answer(tuple(log_probs.tolist())), failed, requests)


def _ask_rotations(
    mllm: Mllm,
    parts: Sequence[tuple[Image, Sequence[Candidate]]],
    *,
    rotations: int | None,
    descriptions: int,
    counts: RerankCounts,
) -> list[_Round]:
    """Ask about options, at most 20 at a time, in all rotations in one call."""
    starts = [rotation_starts(len(options), rotations) for _, options in parts]
    requests = [
        ChoiceRequest(
            image,
            choice_text([options[i] for i in rotated(len(options), start)], descriptions=descriptions),
            SYMBOLS[: len(options)],
        )
        for (image, options), begun in zip(parts, starts, strict=True)
        for start in begun
    ]
    found = iter(mllm.choose(requests) if requests else [])
    rounds = []
    for (_, options), begun in zip(parts, starts, strict=True):
        given = {start: _finite(next(found)) for start in begun}
        answers = {start: answer for start, answer in given.items() if not isinstance(answer, Failure)}
        failures = [answer for answer in given.values() if isinstance(answer, Failure)]
        for answer in given.values():
            counts.add_request(None if isinstance(answer, Failure) else answer.usage)
        if not answers:
            rounds.append(_Round(max(failures, key=lambda failure: failure.hopeless)))
            continue
        log_probs = combine_rotations(list(answers), list(answers.values()), len(options))
        rounds.append(_Round(log_probs, len(failures), len(begun)))
    return rounds


def _finite(answer: Choice | Failure) -> Choice | Failure:
    """Hold log-probabilities to what can be added and compared; refuse what is no number."""
    if isinstance(answer, Failure) or answer.log_probs is None:
        return answer
    if any(math.isnan(value) or value > 1e-3 for value in answer.log_probs):
        return Failure("unreadable: log-probabilities are no numbers below 0")
    return replace(answer, log_probs=tuple(max(value, LOWEST_LOG_PROB) for value in answer.log_probs))


def ask_by_list(
    mllm: Mllm, asked: Sequence[Asked], *, rotations: int | None, descriptions: int, counts: RerankCounts
) -> list[Answered | Failure]:
    """Ask for a sorted list, RAR's way (arXiv 2403.13805, section 3.3); rotations and descriptions take no part.

    A list says an order and no probabilities; it is kept as weights of 1 / place.
    """
    requests = [
        ListRequest(one.image, list_text(one.candidates), TOKENS_PER_NAME * len(one.candidates)) for one in asked
    ]
    answers: list[Answered | Failure] = []
    for one, reply in zip(asked, mllm.write(requests) if requests else [], strict=True):
        counts.add_request(None if isinstance(reply, Failure) else reply.usage)
        if isinstance(reply, Failure):
            answers.append(reply)
            continue
        parsed = parse_list(reply.text, [shown(candidate.title, NAME_CHARACTERS) for candidate in one.candidates])
        if isinstance(parsed, Unreadable):
            answers.append(Failure(f"unreadable: {parsed.reason}"))
            continue
        places = np.empty(len(parsed.order))
        places[list(parsed.order)] = np.arange(1, len(parsed.order) + 1)
        if parsed.reasons:
            counts.add_mended()
        answers.append(Answered(Answer(tuple(normalised(-np.log(places)).tolist()), reasons=parsed.reasons)))
    return answers
