"""Label files in any format, read into categories.

Enter at `read_labels` in `read`; the other files hold one group of formats each. Nothing here knows of vectors. Names
are imported when they are first used: recognising images needs the suffixes of images alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.lazy import lazy_names

if TYPE_CHECKING:
    from memory.labels.read import Labels as Labels
    from memory.labels.read import read_labels as read_labels
    from memory.labels.text import IMAGE_SUFFIXES as IMAGE_SUFFIXES

__getattr__ = lazy_names(
    __name__,
    {
        "IMAGE_SUFFIXES": "memory.labels.text",
        "Labels": "memory.labels.read",
        "read_labels": "memory.labels.read",
    },
)
__all__ = ["IMAGE_SUFFIXES", "Labels", "read_labels"]
