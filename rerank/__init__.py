"""Putting a short list of candidates in its final order. Knows nothing of where the candidates came from."""

from rerank.base import Candidate, Ranking, Reranker

__all__ = ["Candidate", "Ranking", "Reranker"]
