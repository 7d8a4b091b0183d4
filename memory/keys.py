"""Keys of stored vectors: what a vector was computed from, in 16 bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memory.encoder_card import EncoderCard

KEY_BYTES = 16

Keys = NDArray[np.bytes_]
"""(N) of dtype S16: hashes over encoder fingerprint, precision and final texts."""


def text_keys(groups: Sequence[Sequence[str]], card: EncoderCard) -> Keys:
    """Return the (N) keys of N groups of final texts."""
    prefix = f"{card.fingerprint}/{card.precision}/".encode()
    return keys_from_bytes(b"".join(_key(prefix, group) for group in groups))


def keys_from_bytes(data: bytes | memoryview) -> Keys:
    """Return keys that lie one after the other in a buffer."""
    return np.frombuffer(data, dtype=f"S{KEY_BYTES}")


def lookup(keys: Keys, order: NDArray[np.int64], wanted: Keys) -> NDArray[np.int64]:
    """Return (N) int64 the position of each wanted key in ``keys``, -1 where it is missing.

    Args:
        keys: (M) keys, in any order.
        order: (M) int64 permutation that sorts them.
        wanted: (N) keys.
    """
    if not len(keys) or not len(wanted):
        return np.full(len(wanted), -1, np.int64)
    places = np.searchsorted(keys, wanted, sorter=order)
    found = order[np.minimum(places, len(keys) - 1)]
    return np.where(keys[found] == wanted, found, -1)


def _key(prefix: bytes, texts: Sequence[str]) -> bytes:
    digest = hashlib.blake2b(prefix, digest_size=KEY_BYTES)
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()
