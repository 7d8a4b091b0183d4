"""The key of an image: its relative path as text, from which the path bytes can be restored."""

from __future__ import annotations

import base64
import re

_ESCAPE = re.compile(r"\\x[0-9a-f]{2}")
_ESCAPED = re.compile(rb"\\(\\|x[0-9a-f]{2})")


def display_key(key_bytes: bytes) -> str:
    r"""Write path bytes as text, so that distinct paths give distinct texts.

    A UTF-8 path stays as it is, unless it contains the text of an escape such as ``\xff``. In every other path, bytes
    that are not UTF-8 become ``\xhh`` and backslashes are doubled.

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
    """Turn the text of `display_key` back into its bytes."""
    if not _ESCAPE.search(key):
        return key.encode("utf-8")
    return _ESCAPED.sub(_unescape, key.encode("utf-8"))


def key_base64(key_bytes: bytes) -> str | None:
    """Return `key_bytes` in base64 where `display_key` escapes it, else None."""
    if display_key(key_bytes).encode("utf-8") == key_bytes:
        return None
    return base64.b64encode(key_bytes).decode("ascii")


def _unescape(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    return escape if escape == b"\\" else bytes([int(escape[1:], 16)])
