"""A row of the results as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from json.encoder import encode_basestring

from recognizer.results.rounding import rounded, rounded_all, rounded_box
from recognizer.results.row import ErrorRow, EvidenceRow, Row


def encode_row(row: Row) -> bytes:
    """Encode a row as one line of JSON.

    Equal rows give equal bytes. Scores, values, weights and contributions have 8 decimals, so that the contributions
    of up to 1,000 pieces of evidence still add up to the score within 1e-5; confidences have 6 significant digits,
    boxes 2 decimals.

    Args:
        row: the row.

    Returns:
        UTF-8 with one newline, at the end. Lone surrogates, which UTF-8 cannot encode, become ``?``.

    Raises:
        ValueError: a number is not finite.
    """
    if isinstance(row, ErrorRow):
        text = _json(row.to_dict())
    else:  # the text of its `to_dict`, without the objects of the evidence, which is nearly all of it
        pieces = iter(_pieces_json([piece for each in row.candidates for piece in each.evidence]))
        candidates = ",".join(
            f'{_json(each.head())[:-1]},"evidence":[{",".join(islice(pieces, len(each.evidence)))}]}}'
            for each in row.candidates
        )
        rerank = _json(None if row.rerank is None else dict(row.rerank))
        text = f'{_json(row.head())[:-1]},"candidates":[{candidates}],"rerank":{rerank}}}'
    return text.encode("utf-8", "replace") + b"\n"


_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_PIECE = '{"term":%s,"description":%s,"region":%s,"box_xyxy":%s,"value":%s,"weight":%s,"contribution":%s}'


def _pieces_json(pieces: Sequence[EvidenceRow]) -> Iterable[str]:
    """Return the text of each piece, made column by column, which is faster than by an object for each."""
    if not pieces:
        return ()
    terms, texts, regions, boxes, values, weights, contributions = zip(*pieces, strict=True)
    columns = (
        map(encode_basestring, terms),
        map(encode_basestring, texts),
        ["null" if region is None else int(region) for region in regions],
        ["null" if box is None else _box_json(tuple(box)) for box in boxes],
        rounded_all(values),
        map(_weight_json, weights),
        rounded_all(contributions),
    )
    return map(_PIECE.__mod__, zip(*columns, strict=True))


# Weights and boxes repeat, as many descriptions fit one region best.
@lru_cache(maxsize=64)
def _weight_json(weight: float) -> str:
    return _json(rounded(weight))


@lru_cache(maxsize=1024)
def _box_json(box: tuple[float, ...]) -> str:
    return _json(rounded_box(box))
