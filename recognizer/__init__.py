"""Open-vocabulary recognition with evidence: ranked categories per image, and the image regions that support them.

Start at `Encoder`, `Recognizer` and `Settings`, or at the command line in `recognizer.cli`. This package must not know
how an encoder is trained. Names are imported when they are first used, so that importing the package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.lazy import lazy_names

if TYPE_CHECKING:
    __version__: str
    from recognizer.encoder import Encoder as Encoder
    from recognizer.encoder import ImageFeatures as ImageFeatures
    from recognizer.notebook import RowList as RowList
    from recognizer.recognizer import Recognizer as Recognizer
    from recognizer.results import to_dataframe as to_dataframe
    from recognizer.settings import Settings as Settings

_lazy_name = lazy_names(
    __name__,
    {
        "Encoder": "recognizer.encoder",
        "ImageFeatures": "recognizer.encoder",
        "Recognizer": "recognizer.recognizer",
        "RowList": "recognizer.notebook",
        "Settings": "recognizer.settings",
        "to_dataframe": "recognizer.results",
    },
)
__all__ = ["Encoder", "ImageFeatures", "Recognizer", "RowList", "Settings", "__version__", "to_dataframe"]


def __getattr__(name: str) -> object:
    """Import a public name from its module; the version is read from the installed package."""
    if name == "__version__":
        from importlib.metadata import version

        return version("recognizer")
    return _lazy_name(name)
