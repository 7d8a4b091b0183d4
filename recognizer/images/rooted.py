"""Paths that somebody else wrote, such as those in a file of boxes: files are opened only under a folder of the user.

Such a path may be absolute, climb with `..`, or go through a link. What counts is where it leads, after all links.
"""

from __future__ import annotations

import os
from pathlib import Path


def path_under(root: str | bytes | Path, name: str | bytes) -> bytes | None:
    """Return where a path of somebody else leads, if that is inside a folder.

    Args:
        root: the folder that the user named; it may be a link itself.
        name: a path relative to it, or an absolute one; may lead anywhere, or nowhere.

    Returns:
        The absolute path of the file without links in it; None where it leads outside of the folder, or is no path.
        The file may be missing. Nothing is opened.
    """
    try:
        folder = os.path.realpath(os.fsencode(root))
        place = os.path.realpath(os.path.join(folder, os.fsencode(name)))
        return place if os.path.commonpath([folder, place]) == folder else None
    except (OSError, ValueError):  # a zero byte, a surrogate that no file name has, a loop of links
        return None
