"""Names as they are stored: composed, without invisible characters, with control characters made visible."""

from __future__ import annotations

import re
import unicodedata

# Marks that show nothing: the soft hyphen, the grapheme joiner, marks and overrides of writing direction, zero-width
# spaces and invisible operators, the byte order mark, annotation marks; and tags, except in the flags of regions
# (England), which are a black flag followed by tags.
_INVISIBLE = re.compile(
    "(\U0001f3f4[\U000e0020-\U000e007f]+)|[\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# Joiners belong to the spelling between letters of Persian and of the scripts of India, and between emoji. Beside a
# Latin letter, which all stand below U+0300, at an end of the name, or beside each other, they show nothing.
_JOINED = "[\u0300-\u200b\u200e-\U0010ffff]"
_STRAY_JOINER = re.compile(f"(?<!{_JOINED})[\u200c\u200d]+|[\u200c\u200d]+(?!{_JOINED})")
# Line feeds and tabs may stand in quoted cells and in JSON. NUL is left for the category to refuse.
_CONTROL = re.compile("[\x01-\x08\x0b-\x1f\x7f-\x9f]")


def clean_name(name: str) -> str:
    r"""Return a name in NFC, without invisible characters, and with control characters as escapes such as ``\x1b``."""
    if name.isascii() and name.isprintable():
        return name
    while True:
        clean = unicodedata.normalize("NFC", name)
        clean = _STRAY_JOINER.sub("", _INVISIBLE.sub(r"\1", clean))
        clean = _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), clean)
        if clean == name:
            return clean
        # What was removed can bring a letter and its accent, or a joiner and a Latin letter, together.
        name = clean
