"""Cases that tell whether a picture reaches the model, for every backend alike.

As a script it answers them with vLLM's engine, in that package's own environment:

    PYTHON-OF-VLLM -m tests.rerank.seeing MODEL > answers.json
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from PIL import Image

from rerank.base import Candidate, Question
from rerank.mllm import Mllm
from rerank.reranker import MllmReranker
from tests.rerank.tiny_mllm.pictures import FILES, NAMES, PHOTOS, augmented

OPTIONS = 5
CASES = 30


@dataclass(frozen=True, slots=True)
class Case:
    """A picture and options in retrieval's order, the true one never first.

    Attributes:
        image: changed a little, as no training saw it.
        truth: name of the picture that the options hold.
        candidates: with retrieval's confidences, of which the true one has not the largest.
        shown: name of what the image shows: the truth, or another picture whose name is not among the options.
    """

    image: Image.Image
    truth: str
    candidates: tuple[Candidate, ...]
    shown: str


def make_cases(count: int, *, swapped: bool, seed: int = 7) -> list[Case]:
    """Make cases by seed: right pictures, or ones swapped for another."""
    rng = random.Random(seed)
    photos = {}
    for name in NAMES:
        with Image.open(PHOTOS / FILES[name]) as photo:
            photos[name] = photo.convert("RGB")
    cases = []
    for number in range(count):
        names = rng.sample(NAMES, OPTIONS + 1)
        truth, outside = NAMES[number % len(NAMES)], names[-1]
        options = [name for name in names if name != truth][: OPTIONS - 1]
        if outside in options or outside == truth:
            outside = next(name for name in NAMES if name != truth and name not in options)
        options.insert(rng.randrange(1, OPTIONS), truth)
        shown = outside if swapped else truth
        confidences = sorted((rng.uniform(0.1, 0.3) for _ in options), reverse=True)
        candidates = tuple(Candidate(name, confidence=p) for name, p in zip(options, confidences, strict=True))
        cases.append(Case(augmented(photos[shown], rng), truth, candidates, shown))
    return cases


def questions(cases: list[Case]) -> list[Question]:
    """Make the questions of the cases."""
    return [Question(f"case {n}", lambda case=case: case.image, case.candidates) for n, case in enumerate(cases)]


def answers(reranker: MllmReranker, cases: list[Case]) -> list[dict[str, object]]:
    """Ask about all cases; as JSON values."""
    rankings = reranker.rank_many(questions(cases))
    return [
        {
            "status": ranking.status,
            "order": list(ranking.order),
            "answer": None if ranking.answer is None else list(ranking.answer),
        }
        for ranking in rankings
    ]


def right_share(cases: list[Case], found: list[dict[str, object]]) -> float:
    """Return the share of cases whose best candidate is the truth."""
    best = [case.candidates[answer["order"][0]].name for case, answer in zip(cases, found, strict=True)]
    return sum(name == case.truth for name, case in zip(best, cases, strict=True)) / len(cases)


def turned(cases: list[Case], by: int) -> list[Case]:
    """Return the cases with their options begun at another place."""
    return [Case(case.image, case.truth, case.candidates[by:] + case.candidates[:by], case.shown) for case in cases]


def too_long(case: Case) -> Case:
    """Return the case with descriptions that no context of 1,024 tokens holds."""
    words = tuple(" ".join(f"{n}{letter}" for n in range(60)) for letter in "xyz")
    return replace(case, candidates=tuple(replace(candidate, descriptions=words) for candidate in case.candidates))


def all_answers(mllm: Mllm) -> dict[str, object]:
    """Ask a backend about right pictures, swapped ones, turned options, as lists, and about one that is too long."""
    right, swapped = make_cases(CASES, swapped=False), make_cases(CASES, swapped=True)
    choose, write = MllmReranker(mllm), MllmReranker(mllm, mode="list")
    found = {
        "right": answers(choose, right),
        "swapped": answers(choose, swapped),
        "turned": answers(choose, turned(right, 2)),
        "listed": answers(write, right[:10]),
        "once": answers(MllmReranker(mllm, rotations=1), right),
        "once turned": answers(MllmReranker(mllm, rotations=1), turned(right, 2)),
        "counts": choose.counts.to_dict(),
    }
    return found | {"too long": answers(choose, [right[0], too_long(right[1]), right[2]])}


if __name__ == "__main__":
    import json
    import sys

    from rerank.backends.vllm_local import VllmLocal

    mllm = VllmLocal(
        sys.argv[1], dtype="float32", max_num_seqs=32, max_model_len=1024, enforce_eager=True, image_size=256
    )
    found = all_answers(mllm)
    mllm.close()
    print("ANSWERS " + json.dumps(found), flush=True)  # noqa: T201
