"""What reranking cost: images asked, cached, skipped and failed, requests, tokens and seconds."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rerank.mllm import Usage


class RerankCounts:
    """Counts of one reranker or writer; several threads may add.

    What is counted is images for a reranker, and questions for a writer.

    Args:
        items: name of what is counted, in the plural.

    Attributes:
        asked: images that the MLLM was asked about, including those that failed.
        cached: images whose answer was in the cache, or was asked for by a copy of the image.
        skipped: images that were not asked about: retrieval was sure, or too many images had failed.
        failed: images without an answer, by status.
        requests: sent to the MLLM.
        prompt_tokens: of all requests, image tokens included.
        generated_tokens: of all requests.
        mended: written lists with unknown, repeated or missing names.
        seconds: wall time during which at least one thread waited for the MLLM.
    """

    def __init__(self, items: str = "images") -> None:
        """Start all counts at zero."""
        self._items = items
        self.asked = self.cached = self.skipped = 0
        self.requests = self.prompt_tokens = self.generated_tokens = self.mended = 0
        self.failed: Counter[str] = Counter()
        self.seconds = 0.0
        self._busy = 0
        self._since = 0.0
        self._lock = threading.Lock()

    def add_asked(self, failure: str | None) -> None:
        """Count an image that was asked about, with the status of its failure or None."""
        with self._lock:
            self.asked += 1
            if failure is not None:
                self.failed[failure] += 1

    def add_cached(self) -> None:
        """Count an image whose answer was in the cache."""
        with self._lock:
            self.cached += 1

    def add_skipped(self, images: int) -> None:
        """Count images that were not asked about."""
        with self._lock:
            self.skipped += images

    def add_request(self, usage: Usage | None) -> None:
        """Count a request and its tokens; None for a request that failed."""
        with self._lock:
            self.requests += 1
            if usage is not None:
                self.prompt_tokens += usage.prompt_tokens
                self.generated_tokens += usage.generated_tokens

    def add_mended(self) -> None:
        """Count a written list with unknown, repeated or missing names."""
        with self._lock:
            self.mended += 1

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count the time inside the block; threads that are inside at the same time count it once."""
        with self._lock:
            if not self._busy:
                self._since = time.perf_counter()
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                if not self._busy:
                    self.seconds += time.perf_counter() - self._since

    @property
    def none_answered(self) -> bool:
        """Whether images were asked about and none has an answer."""
        return self.asked > 0 and not self.cached and self.failed.total() == self.asked

    def summary(self) -> str:
        """Return all counts in one line."""
        failed = self.failed.total()
        reasons = ", ".join(f"{number} {status}" for status, number in sorted(self.failed.items()))
        mended = f", {self.mended} lists mended" if self.mended else ""
        return (
            f"{self.asked} {self._items} asked, {self.cached} cached, {self.skipped} skipped, {failed} failed"
            f"{f' ({reasons})' if failed else ''}{mended}; {self.requests} requests, {self.seconds:.1f} s, "
            f"{self.prompt_tokens} prompt and {self.generated_tokens} generated tokens"
        )

    def to_dict(self) -> dict[str, object]:
        """Return all counts as plain JSON values."""
        names = ("asked", "cached", "skipped", "requests", "prompt_tokens", "generated_tokens", "mended")
        return {name: getattr(self, name) for name in names} | {
            "failed": dict(sorted(self.failed.items())),
            "seconds": round(self.seconds, 3),
        }
