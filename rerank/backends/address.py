"""The address of a server."""

from __future__ import annotations

from urllib.parse import urlsplit

from rerank.mllm import MllmUnavailable


def checked_address(base_url: str) -> str:
    """Return the address without a slash at its end.

    Raises:
        MllmUnavailable: it is none, or it carries a password or a query, which would show up in messages.
    """
    try:
        parts = urlsplit(base_url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MllmUnavailable(f"{base_url!r} is no address of a server; it should look like http://127.0.0.1:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise MllmUnavailable(
            f"the address of {parts.hostname} must have no password, query or fragment, for it is shown in messages; "
            "put the key into the environment"
        )
    return base_url.rstrip("/")
