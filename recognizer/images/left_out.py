"""Files of a folder that a run leaves out: why, and the lines that say so."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable

from memory.labels import IMAGE_SUFFIXES
from memory.wording import counted
from recognizer.images.content import HEAD_BYTES, TIFF_SIGNATURES, content_kind, decodes_heic

HIDDEN_FILE, HIDDEN_FOLDER = "hidden file", "hidden folder"
EXCLUDED_FILE, EXCLUDED_FOLDER = "excluded file", "excluded folder"
MACOS_FILE = "macOS metadata file"
# Folders of a network storage, a Linux desktop and a macOS archiver. They hold copies of the images beside them, or
# files that only have an image's name.
SYSTEM_FOLDERS = {b"@eaDir": "folder @eaDir", b".thumbnails": "folder .thumbnails", b"__MACOSX": "folder __MACOSX"}
DEAD_LINK, SPECIAL_FILE, UNREADABLE = "link that leads nowhere", "pipe or device", "unreadable file"
HEIC, RAW, VIDEO = "HEIC", "RAW", "video"
_NO_SUFFIX, _OTHER = "file without suffix", "other file"
_PLURALS = {
    HIDDEN_FILE: "hidden files",
    HIDDEN_FOLDER: "hidden folders",
    EXCLUDED_FILE: "excluded files",
    EXCLUDED_FOLDER: "excluded folders",
    MACOS_FILE: "macOS metadata files",
    **{reason: reason.replace("folder", "folders", 1) for reason in SYSTEM_FOLDERS.values()},
    DEAD_LINK: "links that lead nowhere",
    SPECIAL_FILE: "pipes or devices",
    UNREADABLE: "unreadable files",
    VIDEO: "videos",
    _NO_SUFFIX: "files without suffix",
    _OTHER: "other files",
}
_REMEDIES = {
    HEIC: "HEIC: pip install pillow-heif",
    RAW: "RAW: export them as JPEG or TIFF",
    VIDEO: "videos: save frames as images, such as ffmpeg -i VIDEO -vf fps=1 FRAME-%05d.jpg",
}
_MOST_SUFFIXES = 5  # named in the line; more would hide the rest
# fmt: off
_HEIC_SUFFIXES = frozenset([".heic", ".heif", ".hif"])
_RAW_SUFFIXES = frozenset([
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef",
    ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
])
_VIDEO_SUFFIXES = frozenset([
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv",
])
# fmt: on
_PLAIN_SUFFIX = re.compile(r"\.[a-z0-9_-]{1,10}")


def why_left_out(path: bytes) -> str | None:
    """Say why a regular file is left out; None where it is an image, or claims to be one by its suffix.

    Without an image's suffix the content decides.
    """
    suffix = os.path.splitext(os.fsdecode(path))[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return None
    try:
        with open(path, "rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return UNREADABLE
    kind = content_kind(head)
    if kind == "RAW" or (suffix in _RAW_SUFFIXES and (kind is None or head.startswith(TIFF_SIGNATURES))):
        return RAW
    if kind == "image":
        return None
    if kind == "HEIC" or suffix in _HEIC_SUFFIXES:
        return None if decodes_heic() else HEIC
    if kind == "video" or suffix in _VIDEO_SUFFIXES:
        return VIDEO
    if not suffix:
        return _NO_SUFFIX
    return suffix if _PLAIN_SUFFIX.fullmatch(suffix) else _OTHER


def left_out_lines(reasons: Iterable[str]) -> list[str]:
    """Count what was left out, in one line, and say in a second one what makes images of it.

    Args:
        reasons: why, for each file; a suffix for one that has nothing to do with images.
    """
    counts = Counter(reasons)
    suffixes = sorted((reason for reason in counts if reason[0] == "."), key=lambda suffix: (-counts[suffix], suffix))
    for suffix in suffixes[_MOST_SUFFIXES:]:
        counts[_OTHER] += counts.pop(suffix)
    if not counts:
        return []
    order = (
        HEIC,
        RAW,
        VIDEO,
        DEAD_LINK,
        UNREADABLE,
        SPECIAL_FILE,
        EXCLUDED_FILE,
        EXCLUDED_FOLDER,
        *SYSTEM_FOLDERS.values(),
        MACOS_FILE,
        HIDDEN_FILE,
        HIDDEN_FOLDER,
        *suffixes[:_MOST_SUFFIXES],
    )
    parts = [
        counted(counts[reason], reason, _PLURALS.get(reason, reason))
        for reason in (*order, _NO_SUFFIX, _OTHER)
        if counts[reason]
    ]
    lines = [f"left out: {', '.join(parts)}"]
    if remedies := [remedy for reason, remedy in _REMEDIES.items() if counts[reason]]:
        lines.append(f"to include them: {'; '.join(remedies)}")
    return lines
