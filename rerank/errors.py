"""The errors of reranking that end a command; a failing request never does."""

from __future__ import annotations


class RerankError(Exception):
    """What is wrong, with which value, and what to do, in one message meant for the user."""
