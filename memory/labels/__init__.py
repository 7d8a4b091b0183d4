"""Label files in any format, read into categories.

Enter at `read_labels` in `read`; the other files hold one group of formats each. Nothing here knows of vectors. Names
are imported when they are first used: recognising images needs the suffixes of images alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memory.labels.read import Labels as Labels
    from memory.labels.read import read_labels as read_labels
    from memory.labels.text import IMAGE_SUFFIXES as IMAGE_SUFFIXES

_MODULES = {
    "IMAGE_SUFFIXES": "memory.labels.text",
    "Labels": "memory.labels.read",
    "read_labels": "memory.labels.read",
}
__all__ = ["IMAGE_SUFFIXES", "Labels", "read_labels"]


def __getattr__(name: str) -> object:
    """Import a public name from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    return value
