"""The actors that encode what `Decoding` decoded, and look for categories or return the features.

They know nothing of Ray: tables go in and come out. A batch of the run is one block of Ray's, so an image is encoded
and scored in the company that it has in a run of one process.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from recognizer.encoder import Encoder
from recognizer.engine.decoding import DECODED, table_items
from recognizer.features.store import outcomes_of
from recognizer.features.stored_image import StoredFailure, to_table
from recognizer.images import FittedImage, ImageError
from recognizer.pipeline import Decoded, EncodedBatch, encode_batch
from recognizer.recognizer import Recognizer
from recognizer.results.lines import encode_row
from recognizer.results.shards import NUMBER
from recognizer.results.tables import arrow_table
from recognizer.score import Rows
from recognizer.settings import Settings

if TYPE_CHECKING:
    from recognizer.prior import Prior

SAID = "said"
"""Column with what an actor has to say about a batch, a line for each sentence; empty mostly."""


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How an actor loads its encoder.

    Attributes:
        spec: of the encoder's card.
        device: where it computes: `cpu`, `cuda` or `mps`.
        precision: `fp32` or `bf16`.
        threads: that compute, on processors.
    """

    spec: dict[str, Any]
    device: str
    precision: str
    threads: int

    def load(self) -> Encoder:
        """Load it, in the process of the actor."""
        torch.set_num_threads(self.threads)
        return Encoder.from_spec(self.spec, device=self.device, precision=self.precision)


class Recognizing:
    """Encodes images and looks for categories of a memory.

    Args:
        memory: directory of the memory.
        options: of the encoder, which is the memory's.
        settings: of the run.
        only: rows of the categories that compete; None: all.
        prior: of the categories; None: all are equally common.
    """

    def __init__(
        self, memory: str, options: EncoderOptions, settings: Settings, only: Rows | None, prior: Prior | None
    ) -> None:
        """Load the encoder and open the memory."""
        from memory import Memory

        self._recognizer = Recognizer(options.load(), Memory.open(memory), settings=settings, only=only, prior=prior)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Recognise a batch; returns its rows as `run --format parquet` writes them, with `NUMBER` and `SAID`."""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            batch = encoded(self._recognizer.encoder, table)
            rows = [json.loads(encode_row(row)) for row in self._recognizer.batch_rows(batch)]
        result = arrow_table(rows)
        lines = [max(1, len(row.get("candidates") or ())) for row in rows]
        numbers = np.repeat(table[NUMBER].to_numpy(), lines)
        return _said(result.append_column(NUMBER, pa.array(numbers, pa.int64())), said)


class Encoding:
    """Encodes images for a store of features.

    Args:
        options: of the encoder.
    """

    def __init__(self, options: EncoderOptions) -> None:
        """Load the encoder."""
        self._encoder = options.load()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Encode a batch; returns the rows of the table of features, with `NUMBER` and `SAID`.

        A failure has its code and its reason; the hash of its file is left to the store.
        """
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            batch = encoded(self._encoder, table)
        stored = [
            StoredFailure("", one.code, one.reason) if isinstance(one, ImageError) else one
            for one in outcomes_of(batch)
        ]
        return _said(to_table(stored, self._encoder.dim).append_column(NUMBER, table[NUMBER]), said)


def encoded(encoder: Encoder, table: pa.Table) -> EncodedBatch:
    """Encode the images of a table that `Decoding` returned."""
    outcomes: list[Decoded | ImageError] = []
    for row in table.select(DECODED.names).to_pylist():
        if row["code"] is not None:
            outcomes.append(ImageError(row["code"], row["reason"]))
            continue
        pixels = np.frombuffer(bytearray(row["pixels"]), np.uint8).reshape(*encoder.input_size_hw, 3)
        sizes = row["sizes_hw"]
        fitted = FittedImage(pixels, (sizes[0], sizes[1]), (sizes[2], sizes[3]))
        outcomes.append(Decoded(*encoder.preprocess_fitted(fitted), row["sha256"]))
    return encode_batch(encoder, 0, table_items(table), outcomes)


def _said(table: pa.Table, warned: Sequence[warnings.WarningMessage]) -> pa.Table:
    text = "\n".join(str(one.message) for one in warned if one.category.__module__.startswith("recognizer."))
    return table.append_column(SAID, pa.array([text] * len(table), pa.string()))
