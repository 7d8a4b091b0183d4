"""What every caller of a model needs: scaled images, faults that stay with one question, and an end of asking."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from rerank.base import RerankError
from rerank.mllm import Failure

if TYPE_CHECKING:
    from PIL.Image import Image

Item = TypeVar("Item")
Answer = TypeVar("Answer")


UNREADABLE_IMAGE = "unreadable: image"
"""How the status of a failure begins where the image could not be loaded."""


def scaled_image(load: Callable[[], Image], longest: int) -> Image | Failure:
    """Load an image as RGB, its longest side at most `longest` pixels; an OSError or ValueError becomes a failure."""
    try:
        image = load().convert("RGB")
    except (OSError, ValueError) as error:
        return Failure(f"{UNREADABLE_IMAGE}: {str(error)[:80]}")
    if max(image.size) > longest:
        image.thumbnail((longest, longest))  # keeps the aspect ratio
    return image


def ask_apart(
    ask: Callable[[Sequence[Item]], list[Answer | Failure]], items: Sequence[Item], *, closed: Callable[[], bool]
) -> list[Answer | Failure]:
    """Ask about all items in one call; an exception of the backend fails only the item that caused it.

    Args:
        ask: the call.
        items: what is asked about.
        closed: whether the model was closed meanwhile; then the exception is raised, for no item is to blame.
    """
    try:
        return ask(items)
    except RerankError:
        raise
    except Exception as error:
        if closed():
            raise
        if len(items) > 1:
            return [answer for item in items for answer in ask_apart(ask, [item], closed=closed)]
        return [Failure(f"unreadable: {type(error).__name__}", hint=" ".join(str(error).split())[:200])]


class Patience:
    """Says when a model is not asked any more. Safe to use from several threads.

    Args:
        name: of the model, for the warnings.
        item: what fails, in one word: `image`, `question`.
        then: what becomes of the other items, for the warning.
        give_up_after: failures in a row after which the model is left alone.
        warn: called with one sentence at the first failure of each kind, and when the model is left alone; it may hold
            foreign text, not escaped.
    """

    def __init__(
        self, name: str, *, item: str, then: str, give_up_after: int, warn: Callable[[str], None] | None
    ) -> None:
        """Start with full patience."""
        self._name, self._item, self._then = name, item, then
        self._give_up_after, self._warn = give_up_after, warn
        self._failed_in_a_row = 0
        self._gave_up = False
        self._kinds_said: set[tuple[str, int | None]] = set()
        self._lock = threading.Lock()

    @property
    def is_over(self) -> bool:
        """Whether the model is to be left alone."""
        return self._gave_up

    def watch(self, failure: Failure | None) -> None:
        """Count failures in a row, and show the first one of each kind; give up after enough, or a hopeless one."""
        with self._lock:
            self._failed_in_a_row = 0 if failure is None else self._failed_in_a_row + 1
            if failure is None:
                return
            kind = failure.status, failure.code
            is_new = kind not in self._kinds_said
            self._kinds_said.add(kind)
            gives_up = not self._gave_up and (failure.hopeless or self._failed_in_a_row >= self._give_up_after)
            self._gave_up = self._gave_up or gives_up
            in_a_row = self._failed_in_a_row
        if self._warn is None:
            return
        if is_new:
            self._warn(f"{self._name}: {failure.status}{f'; {failure.hint}' if failure.hint else ''}")
        if gives_up:
            items = f"1 failed {self._item}" if in_a_row == 1 else f"{in_a_row} failed {self._item}s in a row"
            self._warn(
                f"{self._name} is left alone for the rest of the run after {items} (the last: {failure.status}); "
                f"{self._then}"
            )
