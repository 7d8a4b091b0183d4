"""The key of an image: its relative path as text that can be turned back into its bytes."""

from __future__ import annotations

import base64
import re

_ESCAPE = re.compile(r"\\x[0-9a-f]{2}")
_ESCAPED = re.compile(rb"\\(\\|x[0-9a-f]{2})")


def display_key(key_bytes: bytes) -> str:
    r"""Write path bytes as text, distinct texts for distinct bytes.

    A path in UTF-8 is itself, unless it spells out an escape such as ``\xff``. Every other path has its stray bytes as
    ``\xhh`` and its backslashes doubled.

    Args:
        key_bytes: path bytes in any encoding.

    Returns:
        Text without lone surrogates.
    """
    try:
        text = key_bytes.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is not None and not _ESCAPE.search(text):
        return text
    return key_bytes.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def key_from_display(key: str) -> bytes:
    """Turn the text of :func:`display_key` back into its bytes."""
    if not _ESCAPE.search(key):
        return key.encode("utf-8")
    return _ESCAPED.sub(_unescape, key.encode("utf-8"))


def key_base64(key_bytes: bytes) -> str | None:
    """`key_bytes` in base64 where :func:`display_key` escapes it, else None."""
    if display_key(key_bytes).encode("utf-8") == key_bytes:
        return None
    return base64.b64encode(key_bytes).decode("ascii")


def _unescape(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    return escape if escape == b"\\" else bytes([int(escape[1:], 16)])
