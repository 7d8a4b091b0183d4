"""What transformers and vLLM share when they run in this process: symbols as tokens, and the identity of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rerank.choice import normalised
from rerank.mllm import Choice, MllmUnavailable, Usage

SymbolIds = Mapping[str, tuple[int, ...]]


def symbol_ids(encode: Callable[[str], list[int]], symbols: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Find the tokens that spell each symbol, with and without a space before it.

    Args:
        encode: text to token ids, without special tokens.
        symbols: of the options.

    Raises:
        MllmUnavailable: a symbol is not a single token of this vocabulary.
    """
    ids = {}
    for symbol in symbols:
        single = [tokens[0] for tokens in (encode(symbol), encode(f" {symbol}")) if len(tokens) == 1]
        if not single:
            raise MllmUnavailable(
                f"the option symbol {symbol!r} is not a single token of this model, so one token cannot answer; "
                "use rerank.mode=list or another model"
            )
        ids[symbol] = tuple(dict.fromkeys(single))
    return ids


def read_choice(log_prob: Callable[[int], float], ids: SymbolIds, symbols: Sequence[str], usage: Usage) -> Choice:
    """Renormalise the log-probabilities of the symbols' tokens; the spellings of each symbol are added.

    Args:
        log_prob: of a token id, over the whole vocabulary.
        ids: from `symbol_ids`.
        symbols: of one request, in its order.
        usage: tokens of the request.
    """
    sums = [np.logaddexp.reduce([log_prob(token) for token in ids[symbol]]) for symbol in symbols]
    log_probs = normalised(np.asarray(sums, np.float64))
    return Choice(tuple(log_probs.tolist()), int(log_probs.argmax()), usage)


def weights_identity(model: str, revision: str | None) -> str:
    """Identify the weights: a local directory by its files, a hub model by its commit.

    Many gigabytes of weights are not read for it: name, size and time of change stand for the content of a file. So a
    copied directory is asked again, which costs time and is never wrong.

    Args:
        model: a directory, or a hub name.
        revision: the commit of a hub model, as resolved.
    """
    folder = Path(model)
    if not folder.is_dir():
        return f"{model}@{revision or 'main'}"
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return f"{folder.name}#{digest.hexdigest()[:16]}"
