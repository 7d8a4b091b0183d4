"""Reads the list an MLLM wrote: a pure function of that one reply and the names it was asked to sort.

A well-formed list of quoted strings is read by its grammar. Any other text is searched for the names, longest first; a
name counts only where it stands as an item: after the start, a line, a comma, a bracket or a number, and before such
an end. Prose that merely mentions a name ("I think it is a fox.") is unreadable: it may as well deny it ("This is not a
fox."), and retrieval's order is the safer answer. A reply of one bare name ("Fox.") is a list of one.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

# A list of 400 names of 80 characters is 34,000; what follows is no part of an answer, and costs time.
MOST_CHARACTERS = 65_536

_THOUGHT_END = "</think>"
_STRING = r"(?:\"(?:[^\"\\\n]|\\.)*+\"|'(?:[^'\\\n]|\\.)*+')"
_LIST = re.compile(rf"\[\s*+({_STRING}(?:\s*+,\s*+{_STRING})*+)\s*+,?\s*+\]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_QUOTES = str.maketrans({**dict.fromkeys("‘’‚‛′`´", "'"), **dict.fromkeys("“”„‟″«»", '"'), "→": ">"})
_DASHES = str.maketrans({**dict.fromkeys("‐‑‒–—―−", "-"), "_": " ", "\\": None, "\ufe0f": None})

# The pieces of an item, in folded text. Repetitions are bounded so that time stays linear in the reply's length.
_NUMBER = r"(?:[(#]?(?:\d{1,3}|[a-z]|[ivx]{2,4})(?:[.):\]\u20e3]{1,2}\s?|\s)[^\w\n,;]{0,6}?)"
_BEFORE = rf"[^\w\n,;]{{0,8}}?{_NUMBER}??(?:(?:an?|the)\s)??"
_START = r"(?:\A|(?<=[\n,;:|>{\[])|(?<=\w\w\w\w[.!?] ))"
_LEADS = "|".join(rf"(?<=\b{word} )" for word in ("is", "are", "be", "as", "with", "by", "rank", "say", "sort", "see"))
_SENTENCE = rf"(?:{_LEADS})(?:(?:an?|the)\s)??['\"*]{{0,3}}"
_JOIN = (
    r"(?:['\"*)\]]{0,3}\s?(?:[,>|&]|-\s|(?<=[\s'\"*])(?:and|or|then)\s)\s?(?:(?:and|or|then|&)\s)?"
    r"|['\"]\s?(?=['\"])|['\"*]{0,3} (?=\(?\d{1,2}[.):]\s))"
)
_END = (
    r"(?=['\"]\s?['\"]|['\"*\s]{0,4}(?:\Z|[\n,;:|\])}>=<(]|[.!?]+['\"*)\]]{0,3}(?:\s|\Z)|-\s"
    r"|(?<=[\s'\"*])(?:(?:and|or|then|&)\s|\(?\d{1,2}[.):]\s)))"
)
# Digits or a letter before a point or a bracket, with more to come, number an item and name none.
_SHORT = re.compile(r"\d{1,3}|[a-z]|[ivx]{2,4}")
_NO_NUMBER = r"(?![.):]+\s*\S)"
# What a reply may say about an item: a score, a remark in brackets, a reason up to the end of the line.
_REMARK = re.compile(
    r"['\"*]{0,3} ?(?:\([^()\n]{0,300}\)|[:=(-]? ?['\"]?\d[\d.]*%?['\"]?\)?(?!\w)|: ?\"[^\"\n]*\""
    r"|[:-] (?![{\[])[^\n\]]*)"
)
_CUT = re.compile(rf"{_JOIN}?[^\w,;]{{0,8}}{_NUMBER}?(\w[^\n,;]*)\Z")
_BRACKETS = re.compile(r"[\[\]]")
_BETWEEN = re.compile(r"[,;>|\n]")
_KEY = re.compile(r"['\"]?\w+['\"]?\s?:")
_MARK = re.compile(r"^\W*(?:\d{1,3}|[a-z])[.):\]]")
_LETTERS = re.compile(r"[^\W\d_]{2}")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a reply says about the order of k names.

    Attributes:
        order: permutation of range(k): what was matched in the reply's order, the rest in the order given.
        matched: how many names were found; the first `matched` of `order`.
        reasons: what was mended, as codes with counts: `no brackets`, `one bracket`, `unknown N`, `repeated N`,
            `cut 1` (a name broken off at the end), `left out N`, `too long`.
    """

    order: tuple[int, ...]
    matched: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """No name could be read as an item.

    Attributes:
        reason: `empty reply`, `no known name` or `names only in prose`.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class _Item:
    """Where an item stands in the folded text, and where the remark about it ends."""

    key: str
    start: int
    end: int
    remark_end: int


@dataclass(slots=True)
class _Reading:
    """The names found so far. Equal folded names are taken in the order given, an exact spelling first."""

    names: Sequence[str]
    rows: dict[str, list[int]]
    order: list[int] = field(default_factory=list)
    unknown: int = 0
    repeated: int = 0
    cut: int = 0

    def take(self, key: str, spelling: str = "") -> None:
        rows = self.rows.get(key)
        if rows is None:
            self.unknown += 1
            return
        exact = [row for row in rows if self.names[row] == spelling]
        free = next((row for row in exact or rows if row not in self.order), None)
        if free is None:
            self.repeated += 1
        else:
            self.order.append(free)


def parse_list(reply: str, names: Sequence[str]) -> Parsed | Unreadable:
    """Read the order of names out of a reply.

    Of several lists the one with the most names counts, the last of equal ones. Case, width, whitespace, underscores,
    kinds of quotes and dashes, and backslashes make no difference.

    Args:
        reply: what the MLLM wrote; beyond `MOST_CHARACTERS` it is not read.
        names: as the prompt showed them, in retrieval's order.

    Returns:
        A permutation of all names, or why there is none; never raises for a reply.
    """
    text = reply
    if _THOUGHT_END in text and not any(_THOUGHT_END in name for name in names):
        text = text.rpartition(_THOUGHT_END)[2]
    too_long = len(text) > MOST_CHARACTERS
    text = text[:MOST_CHARACTERS]
    rows = _rows(names)
    reading, brackets = _Reading(names, rows), ""
    _read_strict(text, reading)
    if not reading.order or reading.unknown:
        # Numbers or articles inside the quotes hide names from the grammar.
        folded, loose = _fold(text), _Reading(names, rows)
        reason = _read_loose(folded, loose)
        if len(loose.order) > len(reading.order):
            reading, brackets = loose, reason
        if not reading.order:
            if not folded.strip():
                return Unreadable("empty reply")
            named = any(re.search(rf"(?<!\w){re.escape(key)}(?!\w)", folded) for key in rows if key)
            return Unreadable("names only in prose" if named else "no known name")
    rest = [row for row in range(len(names)) if row not in reading.order]
    counts = {"unknown": reading.unknown, "repeated": reading.repeated, "cut": reading.cut, "left out": len(rest)}
    reasons = [brackets] if brackets else []
    reasons += [f"{code} {count}" for code, count in counts.items() if count]
    if too_long:
        reasons.append("too long")
    return Parsed((*reading.order, *rest), len(reading.order), tuple(reasons))


def _rows(names: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(_fold_line(name), []).append(row)
    for row, name in enumerate(names):
        if name.endswith("…"):
            rows.setdefault(_fold_line(name[:-1]), []).append(row)
    return rows


def _fold(text: str) -> str:
    """Return the text as names are compared in: lines, single spaces, one kind of quote and dash, no case."""
    seen = "".join(
        ("\n" if c in "\n\r\v\f\x85\u2028\u2029" else " ") if c.isspace() else c
        for c in text.translate(_QUOTES)
        if c.isspace() or unicodedata.category(c)[0] != "C"
    )
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold()).translate(_DASHES)
    return re.sub(r"\s+", lambda space: "\n" if "\n" in space[0] else " ", plain)


def _fold_line(text: str) -> str:
    return " ".join(_fold(text).split())


def _read_strict(text: str, reading: _Reading) -> None:
    """Read the best well-formed list, if there is one; several of a single name each are left to the search."""
    lists = [[_unescape(item) for item in re.findall(_STRING, found[1])] for found in _LIST.finditer(text)]
    known = [len({_fold_line(item) for item in items} & reading.rows.keys()) for items in lists]
    most = max(known, default=0)
    if not most or (most == 1 and len(lists) > 1):
        return
    for item in lists[_last(known, most)]:
        reading.take(_fold_line(item), item)


def _unescape(quoted: str) -> str:
    def character(found: re.Match[str]) -> str:
        code = found[1] or found[2]
        return chr(int(code, 16)) if code else found[3]

    plain = _ESCAPE.sub(character, quoted[1:-1])
    # JSON writes characters beyond the basic plane as two escapes.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_loose(text: str, reading: _Reading) -> str:
    """Take every name that stands as an item of the best bracketed part, else of the whole; return the reason."""
    items = list(_items(text, reading.rows))
    starts = [item.start for item in items]
    inside = [
        (first, last, items[bisect_left(starts, first) : bisect_left(starts, last)])
        for first, last in _regions(text, items)
    ]
    counts = [len({item.key for item in found}) for _, _, found in inside]
    most = max(counts, default=0)
    reason, first, last, chosen = "no brackets", 0, len(text), items
    if most > 1 or counts.count(1) == 1:
        first, last, chosen = inside[_last(counts, most)]
        whole = text[first - 1 : first] == "[" and text[last : last + 1] == "]"
        reason = "" if whole else "one bracket"
    elif most:
        reason, chosen = "", [item for _, _, found in inside for item in found]
    for item in chosen:
        reading.take(item.key)
    if chosen:
        ends = [item.remark_end for item in chosen]
        reading.unknown += sum(
            _count_unknown(text[end : item.start]) for end, item in zip(ends, chosen[1:], strict=False)
        )
        if reason != "no brackets":
            reading.unknown += _count_unknown(text[first : chosen[0].start])
        if reason and last == len(text) and _take_cut(text[ends[-1] :], reading):
            return reason
        if reason != "no brackets" and most > 1:
            reading.unknown += _count_unknown(text[ends[-1] : last])
    return reason


def _items(text: str, keys: Iterable[str]) -> Iterator[_Item]:
    """Find the names that stand as items, from left to right, with the remark after each."""
    # A name of underscores alone has no key to search for; a well-formed list still finds it.
    by_length = sorted(filter(None, keys), key=len, reverse=True)
    if not by_length:
        return
    short = (_NO_NUMBER if _SHORT.fullmatch(key) else "" for key in by_length)
    names = "|".join(re.escape(key) + guard for key, guard in zip(by_length, short, strict=True))
    following = rf"{_JOIN}{_BEFORE}(?P<name>{names}){_END}"
    after = re.compile(following)
    # "The order is fox, cat, dog": in a sentence the first name counts where another one follows it in a list.
    listed = f"(?={following.replace('?P<name>', '?:')})"
    anywhere = re.compile(rf"{_START}{_BEFORE}(?P<name>{names}){_END}|{_SENTENCE}(?P<first>{names}){listed}")
    found = anywhere.search(text)
    while found:
        group = "first" if found.re is anywhere and found["first"] else "name"
        start, end = found.span(group)
        coming = after.match(text, end)
        remark = None if coming else _REMARK.match(text, end)
        reach = remark.end() if remark else end
        yield _Item(found[group], start, end, reach)
        found = coming or (after.match(text, reach) if remark else None) or anywhere.search(text, reach)


def _regions(text: str, items: Sequence[_Item]) -> list[tuple[int, int]]:
    """Return the outermost bracketed parts, brackets left out; one may be open at the text's start or end."""
    covered = iter([*items, _Item("", len(text), len(text), len(text))])
    item = next(covered)
    regions: list[tuple[int, int]] = []
    depth, start = 0, 0
    for bracket in _BRACKETS.finditer(text):
        while item.end <= bracket.start() and item.start < len(text):
            item = next(covered)
        if item.start <= bracket.start():
            continue
        if bracket[0] == "[":
            start = start if depth else bracket.end()
            depth += 1
        elif depth or not regions:
            depth = max(depth - 1, 0)
            if not depth:
                regions.append((start, bracket.start()))
                start = bracket.end()
    return [*regions, (start, len(text))] if depth else regions


def _take_cut(rest: str, reading: _Reading) -> bool:
    """Take the one name left that begins with the piece at the end of a list that broke off."""
    piece = _CUT.match(rest)
    if not piece or len(piece[1]) < 2:
        return False
    begun = {row for key, rows in reading.rows.items() if key.startswith(piece[1]) for row in rows}
    begun.difference_update(reading.order)
    if len(begun) != 1:
        return False
    reading.order.extend(begun)
    reading.cut = 1
    return True


def _count_unknown(gap: str) -> int:
    """Count the items between two known ones."""
    pieces = (_KEY.sub("", _MARK.sub("", piece)) for piece in _BETWEEN.split(gap))
    return sum(_LETTERS.search(re.sub(r"\b(?:and|or|then)\b", "", piece)) is not None for piece in pieces)


def _last(values: Sequence[int], wanted: int) -> int:
    return len(values) - 1 - values[::-1].index(wanted)
