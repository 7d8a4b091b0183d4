"""How a request to a server fails: what its HTTP code means, and what the server wrote about it. Pure functions."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

# An excerpt of a reply in a reason: enough to recognise it, too short to carry a page into a results file.
EXCERPT_CHARACTERS = 40
# A wrong key, a missing permission, no such model or route: no later request can succeed.
HOPELESS_CODES = (401, 403, 404)
# Time-out, conflict and too many requests at the server: they pass, as an overload does.
PASSING_CODES = (408, 409, 429)
# These say that the server is busy; another 5xx may be how it fails over a field that it does not know.
BUSY_CODES = (*PASSING_CODES, 503, 504)
LONGEST_RETRY_AFTER_S = 30.0
# Servers explain themselves in one sentence of 50 to 150 characters; some then quote the request.
LONGEST_SENTENCE = 200
CONTENT_TOO_LARGE = 413
# How OpenAI, vLLM, SGLang, llama.cpp, TGI, Gemini and Anthropic say that a prompt does not fit.
_TOO_LONG = re.compile(
    r"context[ _](?:length|size|window)|maximum model length"
    r"|(?:prompt|input|request)s?\b.{0,60}?(?:too (?:long|large)|exceed|longer|must be <=)",
    re.IGNORECASE | re.DOTALL,
)
_ABOUT_THE_KEY = re.compile(r"api[ _-]?key|authori[sz]ation|authenticat|credential|bearer", re.IGNORECASE)


class UnreadableError(ValueError):
    """A reply that cannot be read; the message is the reason, one short printable line."""


class FailedRequest(Exception):
    """A request that failed.

    Attributes:
        status: `timeout`, `unreachable` or `refused`; never a word of the server's.
        code: of HTTP, if the server replied.
        hopeless: no later request can succeed.
        retry_after_s: seconds that the server asks to wait, at most 30.
        message: what the server wrote about it, not escaped; empty if nothing.
    """

    def __init__(
        self,
        status: str,
        *,
        code: int | None = None,
        hopeless: bool = False,
        retry_after_s: float | None = None,
        message: str = "",
    ) -> None:
        """Store why it failed."""
        super().__init__(status)
        self.status, self.code, self.hopeless, self.retry_after_s = status, code, hopeless, retry_after_s
        self.message = message

    @classmethod
    def by_code(cls, code: int, headers: Mapping[str, str], message: str = "") -> FailedRequest:
        """Make the failure of an HTTP status code other than success."""
        if code in PASSING_CODES or code >= 500:
            retry_after_s = _retry_after_s(headers.get("retry-after"))
            return cls("unreachable", code=code, retry_after_s=retry_after_s, message=message)
        return cls("refused", code=code, hopeless=code in HOPELESS_CODES, message=message)

    @property
    def too_long(self) -> bool:
        """Whether the prompt, with its image, is more than the server takes."""
        return self.status == "refused" and (
            self.code == CONTENT_TOO_LARGE or _TOO_LONG.search(self.message) is not None
        )

    @property
    def may_be_about_a_field(self) -> bool:
        """Whether the request may succeed without a field that the server does not know; not if it is away or busy."""
        return self.status == "refused" or (self.code is not None and self.code not in BUSY_CODES)

    @property
    def about_the_key(self) -> bool:
        """Whether the key is missing or wrong; proxies say so with a 400."""
        return self.code == 401 or (self.code in (400, 403) and _ABOUT_THE_KEY.search(self.message) is not None)


def is_redirect(code: int) -> bool:
    """Tell whether an HTTP code sends the client to another address."""
    return 300 <= code < 400


def server_message(body: bytes) -> str:
    """Return what the body of an error says, in one line: its message in JSON, the title of a page, or the text."""
    text = body.decode("utf-8", "replace").strip()
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError):
        title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        found = title[1] if title else "" if text.startswith("<") else text
    for _ in range(4):  # OpenAI nests two deep; FastAPI has a list of faults under `detail`
        if isinstance(found, list) and found:
            found = found[0]
        if isinstance(found, dict):
            found = next((found[key] for key in ("error", "message", "detail", "msg") if found.get(key)), "")
    return " ".join(found.split()) if isinstance(found, str) else ""


def first_sentence(message: str) -> str:
    """Return the first sentence of a message, cut to 200 characters; a dot inside a word or number ends none."""
    sentence = re.split(r"(?<=[.!?])\s", message, maxsplit=1)[0]
    return sentence if len(sentence) <= LONGEST_SENTENCE else sentence[: LONGEST_SENTENCE - 1] + "…"


def excerpt(text: str) -> str:
    """Return the beginning of a reply, quoted and escaped, on one line."""
    return ascii(text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 3] + "...")


def _retry_after_s(header: str | None) -> float | None:
    """Read `Retry-After`, in seconds or as a date; None if it is missing or cannot be read."""
    if header is None:
        return None
    try:
        numeric = re.fullmatch(r"[\d.]+", header)
        seconds = float(header) if numeric else parsedate_to_datetime(header).timestamp() - time.time()
    except ValueError:
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)
