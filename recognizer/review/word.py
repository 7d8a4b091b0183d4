"""The random word in the address of a review; the same each time, so that an open page finds its server again."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from rerank.cache import default_cache_path

_WORD = re.compile(r"[\w-]{20,}")


def kept_word(results: Path) -> str:
    """Return the word of the review of a file of results: from the user's cache, where nobody else can read it."""
    name = hashlib.sha256(os.fsencode(results.resolve())).hexdigest()[:32]
    path = default_cache_path().with_name("review") / name
    try:
        word = path.read_text(encoding="ascii").strip()
        if _WORD.fullmatch(word):
            return word
    except (OSError, ValueError):
        pass
    word = secrets.token_urlsafe(24)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as stream:
            stream.write(word)
    except OSError:  # then it is another one the next time
        pass
    return word
