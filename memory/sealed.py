"""JSON that holds the hash of the rest of itself, so that a changed byte is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_HASH = "sha256"


def seal(body: Mapping[str, Any]) -> bytes:
    """Return an object as JSON with its hash; the same bytes for equal objects."""
    return canonical_json({**body, _HASH: sha256_of(body)})


def unseal(data: bytes) -> dict[str, Any]:
    """Return the object that was sealed.

    Raises:
        ValueError: it is not sealed JSON, or has changed since.
    """
    try:
        body = json.loads(data)
        del body[_HASH]
        intact = seal(body) == data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not sealed JSON ({type(error).__name__})") from error
    if not intact:
        raise ValueError("changed since it was written")
    return dict(body)


def sha256_of(value: Mapping[str, Any]) -> str:
    """Return the hash (hexadecimal) of an object; the same for equal objects."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Return an object as JSON for people, in one form only."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
