"""An MLLM that answers as a function says; stands in for faults and for known answers."""

from __future__ import annotations

import json
import math
import re

from rerank.mllm import Choice, Failure, Reply, Scores, Usage

OPTION = re.compile(r'^([A-T]): ("(?:[^"\\]|\\.)*")', re.MULTILINE)


def options(text):
    """Read (symbol, name) of each option off a question."""
    return [(symbol, json.loads(name)) for symbol, name in OPTION.findall(text)]


def choice(weights, usage=None):
    """A choice whose probabilities are in proportion to the weights."""
    total = sum(weights)
    log_probs = tuple(math.log(weight / total) for weight in weights)
    return Choice(log_probs, max(range(len(weights)), key=weights.__getitem__), usage or Usage(10, 1))


class ScriptedMllm:
    """Answers with `choose_one(request)` and `write_one(request)`; keeps what it was asked."""

    def __init__(self, choose_one=None, write_one=None, parallel=4, identity="scripted"):
        self.name = "scripted"
        self.identity = identity
        self.parallel = parallel
        self.asked = []
        self._choose_one, self._write_one = choose_one, write_one

    def choose(self, requests):
        self.asked += requests
        return [self._choose_one(request) for request in requests]

    def write(self, requests):
        self.asked += requests
        answers = [self._write_one(request) for request in requests]
        return [Reply(answer, Usage(10, 5)) if isinstance(answer, str) else answer for answer in answers]

    def close(self):
        pass


def preferring(names, biased_to=None, bias=1.0):
    """An MLLM that likes names in that order, and whatever stands in place `biased_to` by a factor `bias` more."""

    def choose_one(request):
        shown = [name for _, name in options(request.text)]
        weights = [1.0 / (1 + names.index(name)) if name in names else 0.01 for name in shown]
        if biased_to is not None and biased_to < len(weights):
            weights[biased_to] *= bias
        return choice(weights)

    return ScriptedMllm(choose_one, lambda request: "[" + ", ".join(repr(name) for name in names) + "]")


class ScriptedScorer:
    """A reranker with a score for each text, or with a failure for every request; keeps the texts it was asked."""

    name = identity = "scorer"
    parallel = 4

    def __init__(self, scores):
        self.asked = []
        self._scores = scores

    def score(self, requests):
        self.asked += [request.texts for request in requests]
        if isinstance(self._scores, Failure):
            return [self._scores for _ in requests]
        return [Scores(tuple(self._scores[text] for text in request.texts)) for request in requests]

    def close(self):
        pass
