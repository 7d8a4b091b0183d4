"""Reads the list that an MLLM wrote, by one strict grammar: `['name', "other name"]`, with the names of the prompt.

A reply that could mean something else is refused, for an unreadable answer keeps retrieval's order and a wrong one
spoils it. In "The image most likely shows cat, then dog" the words around the names decide what they mean, so prose,
numbered lines and unquoted names are not lists. Pure functions of one reply.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Far more than any answer: 400 names of 80 characters are 34,000. It bounds the time that a longer reply costs.
MAX_CHARACTERS = 65_536

THOUGHT_END = "</think>"
# Possessive repetitions (`*+`) never try again, so a list without an end costs one pass over it.
_STRING = r"(?:\"(?:[^\"\\\n]|\\.)*+\"|'(?:[^'\\\n]|\\.)*+')"
_LIST = re.compile(rf"\[\s*+({_STRING}(?:\s*+,\s*+{_STRING})*+)\s*+,?\s*+\]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a reply says about the order of k names.

    Attributes:
        order: permutation of range(k): the listed names in the reply's order, then the others in the prompt's order.
        matched: how many names were listed; the first `matched` of `order`.
        reasons: what was wrong with the list, as codes with counts: `unknown N` (items that are not names),
            `repeated N`, `left out N`.
    """

    order: tuple[int, ...]
    matched: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The reply does not hold one list of names.

    Attributes:
        reason: `empty reply`, `no list of quoted names`, `several lists` or `no known name`.
    """

    reason: str


def parse_list(reply: str, names: Sequence[str]) -> Parsed | Unreadable:
    """Read the order of names out of a reply.

    The reply may say something before and after its one list, such as a code fence; thoughts up to `</think>` are not
    read. Names must be spelled exactly as the prompt shows them. Items that are not names, and repetitions, are left
    out; names that the list leaves out follow in the prompt's order.

    Args:
        reply: what the MLLM wrote; of its answer the first `MAX_CHARACTERS` characters are read.
        names: as the prompt shows them, in retrieval's order; equal ones are taken in that order.

    Returns:
        A permutation of all names, or why there is none; never raises for a reply.
    """
    thoughtful = not any(THOUGHT_END in name for name in names)
    text = (reply.rpartition(THOUGHT_END)[2] if thoughtful else reply)[:MAX_CHARACTERS]
    if not text.strip():
        return Unreadable("empty reply")
    lists = _LIST.findall(text)
    if not lists:
        return Unreadable("no list of quoted names")
    if len(lists) > 1:
        return Unreadable("several lists")
    order: list[int] = []
    unknown = repeated = 0
    for item in map(_unquoted, re.findall(_STRING, lists[0])):
        rows = [row for row, name in enumerate(names) if name == item]
        free = next((row for row in rows if row not in order), None)
        if free is not None:
            order.append(free)
        elif rows:
            repeated += 1
        else:
            unknown += 1
    if not order:
        return Unreadable("no known name")
    rest = [row for row in range(len(names)) if row not in order]
    counts = {"unknown": unknown, "repeated": repeated, "left out": len(rest)}
    return Parsed((*order, *rest), len(order), tuple(f"{code} {count}" for code, count in counts.items() if count))


def _unquoted(text: str) -> str:
    """Return the content of a quoted string; the escapes of JSON and of Python that names can need are read."""

    def character(escape: re.Match[str]) -> str:
        code = escape[1] or escape[2]
        return chr(int(code, 16)) if code else escape[3]

    plain = _ESCAPE.sub(character, text[1:-1])
    # JSON writes a character beyond the basic plane as two escapes, a surrogate pair.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
