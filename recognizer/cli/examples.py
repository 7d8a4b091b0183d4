"""What `add`, `remove` and `verify` do with example images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memory.wording import counted
from recognizer.cli.stored_features import opened_features
from recognizer.console import note, show, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memory import Memory
    from recognizer.encoder import Encoder
    from recognizer.exemplars import Doubted


def add_examples(opened: Memory, encoder: Encoder, folder: Path, features: str | None) -> None:
    """Add the images of a folder or CSV, and say how many there are now."""
    from recognizer.exemplar_files import add_exemplars, warnings_about
    from recognizer.images import ImageLimits

    before = opened.info().exemplars
    with opened_features(features, encoder, ImageLimits()) as stored:
        read = add_exemplars(opened, encoder, folder, features=stored)
    for sentence in (*read.problems, *warnings_about(opened.vectors)):
        note(sentence)
    now = opened.info().exemplars
    encoded = counted(read.encoded, "image")
    show(f"added {counted(now - before, 'exemplar')}, {encoded} encoded; {_now(opened)}")


def remove_examples(opened: Memory, names: Sequence[str]) -> None:
    """Remove exemplars by reference or category, and say how many are left."""
    from recognizer.exemplar_files import remove_exemplars

    gone = remove_exemplars(opened, names)
    show(f"removed {counted(gone, 'exemplar')}; {_now(opened)}")


def list_doubted(opened: Memory) -> None:
    """List equal exemplars of several categories, those that the others contradict, and pairs in dispute."""
    from recognizer.exemplar_files import warnings_about
    from recognizer.exemplars import ExemplarHead
    from recognizer.memory_settings import carried_settings
    from recognizer.settings import load_settings

    vectors = opened.vectors
    for sentence in warnings_about(vectors):
        show(sentence)
    score = load_settings(base=carried_settings(opened, warn=note)).score
    head = ExemplarHead(vectors, score) if len(vectors.exemplars) else None
    doubted, disputed = (head.doubted(), head.disputed()) if head is not None else ([], [])
    _show_doubted(doubted)
    total = counted(len(vectors.exemplars), "exemplar")
    show(f"{total}; {len(doubted)} contradicted by the others of their category, and so fitted less closely")
    if disputed:
        _show_doubted(disputed)
        show(
            f"{len(disputed) // 2} times the two exemplars of a category contradict each other. Neither outvotes the "
            "other: look at both, the likelier wrong one is first. They are fitted as they are"
        )


def _show_doubted(doubted: Sequence[Doubted]) -> None:
    if doubted:
        rows = [[each.reference, each.category, each.rival] for each in doubted]
        show(table(["exemplar", "category", "looks like"], rows, widest=100))


def _now(opened: Memory) -> str:
    return f"{opened.location} now has {counted(opened.info().exemplars, 'exemplar')}"
