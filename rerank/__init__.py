"""Reorder a short list of candidates for an image with a frozen multimodal LLM (RAR, arXiv 2403.13805).

The entry point is `rerank.reranker.MllmReranker`; `rerank.backends.open_mllm` opens the model that it asks. This
package must not know where the candidates come from: it imports neither `memory` nor `recognizer`.
"""

from rerank.base import Candidate, Question, Ranking

__all__ = ["Candidate", "Question", "Ranking"]
