"""Open-vocabulary recognition with evidence: an encoder looks, a memory recalls, and the score says why.

Names are imported when they are first used, so that importing the package loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recognizer.encoder import Encoder as Encoder
    from recognizer.encoder import ImageFeatures as ImageFeatures
    from recognizer.recognizer import Recognizer as Recognizer
    from recognizer.settings import Settings as Settings

_HOMES = {
    "Encoder": "recognizer.encoder",
    "ImageFeatures": "recognizer.encoder",
    "Recognizer": "recognizer.recognizer",
    "Settings": "recognizer.settings",
}
__all__ = ["Encoder", "ImageFeatures", "Recognizer", "Settings"]


def __getattr__(name: str) -> object:
    """Import a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    return value
