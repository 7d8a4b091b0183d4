"""Recognises the images of requests: decoded each apart, encoded together, answered with rows."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from recognizer.boxes.plan import BoxItem
from recognizer.boxes.rows import recognized_boxes
from recognizer.encoder.passes import PASS_SIZE, single_threads
from recognizer.errors import RecognizerError
from recognizer.images import ImageError, ImageItem
from recognizer.images.worker import Task
from recognizer.images.workers import WorkerPool
from recognizer.pipeline import ENCODED_AT_ONCE, Decoded, decode, encode_batch
from recognizer.recognizer import Recognizer
from recognizer.reranking.questions import RankedImage, rerank_rows
from recognizer.results.row import ErrorRow, Row
from recognizer.serving.batches import Batcher
from recognizer.serving.following import FollowedMemory, Generation
from recognizer.settings import RerankSettings
from rerank.reranker import MllmReranker

Outcome = TypeVar("Outcome")


class Busy(RecognizerError):
    """As many images wait as may."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An image of a request.

    Attributes:
        item: its name as the key, and the file it was stored in.
        boxes: what to recognise of it; None: the whole image.
    """

    item: ImageItem
    boxes: Sequence[BoxItem] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A decoded image in the queue of the encoder."""

    generation: Generation
    item: ImageItem
    decoded: Decoded
    top_k: int


class Service:
    """Answers requests from the followed memory; its methods are for one event loop.

    Args:
        followed: the memory.
        most_waiting: images in work or waiting at a time.
        workers: decoding processes.
        reranker: asked where a request wants it; None: there is none.
        watch_batch: called with the number of images of each batch.
    """

    def __init__(
        self,
        followed: FollowedMemory,
        *,
        most_waiting: int,
        workers: int,
        reranker: MllmReranker | None = None,
        watch_batch: Callable[[int], None] | None = None,
    ) -> None:
        """Start the threads."""
        self.followed = followed
        self.reranker = reranker
        self.waiting = 0
        self._most_waiting = most_waiting
        self._watch_batch = watch_batch
        self._decoder = WorkerPool(workers)
        self._decoding = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._others = ThreadPoolExecutor(2, thread_name_prefix="other")
        self._boxes_turn = threading.Lock()  # boxes are decoded by processes of their own, as many as there are cores
        self._batcher = Batcher(
            self._encode,
            key=lambda waiting: waiting.generation,
            most=most_together(followed.current.recognizer),
            threads=single_threads(ENCODED_AT_ONCE, "batch"),
            count=ENCODED_AT_ONCE,
        )

    async def recognize(self, uploads: Sequence[Upload], *, top_k: int | None, rerank: bool) -> list[Row]:
        """Recognise the images of a request.

        Args:
            uploads: the images; their files must last until this returns.
            top_k: candidates per image; None: as the settings say.
            rerank: ask the MLLM about all of them.

        Returns:
            A row per image, or per box of it, in order.

        Raises:
            Busy: too many images wait; nothing was done.
            RecognizerError: there is no reranker.
        """
        if rerank and self.reranker is None:
            raise RecognizerError("this server has no multimodal LLM; start it with --rerank-model")
        generation = self.followed.current
        settings = generation.recognizer.settings
        k = top_k or settings.run.top_k
        with self._places(len(uploads)):
            parts = await asyncio.gather(*(self._recognize_one(generation, upload, k) for upload in uploads))
            rows = [row for part in parts for row in part]
            if not rerank:
                return rows
            items = [upload.item for upload, part in zip(uploads, parts, strict=True) for _ in part]
            return await asyncio.get_running_loop().run_in_executor(self._others, self._rerank, generation, items, rows)

    async def in_background(self, work: Callable[[], Outcome]) -> Outcome:
        """Do something slow, such as an edit of the memory, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._others, work)

    def close(self) -> None:
        """Finish what is queued, and end the threads and processes."""
        self._batcher.close()
        self._decoding.shutdown(wait=True)
        self._others.shutdown(wait=True)
        self._decoder.close()
        self.followed.close()

    @contextmanager
    def _places(self, count: int) -> Iterator[None]:
        if self.waiting + count > self._most_waiting:
            raise Busy(f"{self.waiting} images wait already; ask again in a moment")
        self.waiting += count
        try:
            yield
        finally:
            self.waiting -= count

    async def _recognize_one(self, generation: Generation, upload: Upload, top_k: int) -> list[Row]:
        loop = asyncio.get_running_loop()
        if upload.boxes is not None:
            return await loop.run_in_executor(self._others, self._recognize_boxes, generation, upload.boxes)
        recognizer = generation.recognizer
        encoder = recognizer.encoder
        task = Task(recognizer.settings.images, encoder.input_size_hw, encoder.fit)
        decoded = await loop.run_in_executor(self._decoding, decode, self._decoder, encoder, upload.item, task)
        if isinstance(decoded, ImageError):
            item = upload.item
            return [ErrorRow(path=item.key, path_b64=item.key_base64, code=decoded.code, reason=decoded.reason)]
        waiting = _Waiting(generation, upload.item, decoded, top_k)
        return [await asyncio.wrap_future(self._batcher.submit(waiting))]

    def _encode(self, batch: Sequence[_Waiting]) -> list[Row]:
        """Encode the images of a batch, which are of one generation, and make their rows."""
        if self._watch_batch is not None:
            self._watch_batch(len(batch))
        recognizer = batch[0].generation.recognizer
        encoded = encode_batch(
            recognizer.encoder, 0, [waiting.item for waiting in batch], [waiting.decoded for waiting in batch]
        )
        assert encoded.features is not None  # all of them were decoded
        by_k: dict[int, list[int]] = defaultdict(list)
        for place, waiting in enumerate(batch):
            by_k[waiting.top_k].append(place)
        rows: dict[int, Row] = {}
        for k, places in by_k.items():
            features = encoded.features.take(np.array(places))
            found = recognizer.rows(
                features,
                [batch[place].item for place in places],
                sizes_hw=[encoded.sizes_hw[place] for place in places],
                retrieved=recognizer.retriever.retrieve(features, k),
            )
            rows |= dict(zip(places, found, strict=True))
        return [rows[place] for place in range(len(batch))]

    def _recognize_boxes(self, generation: Generation, boxes: Sequence[BoxItem]) -> list[Row]:
        with self._boxes_turn:
            batches = recognized_boxes(generation.recognizer, iter([(0, boxes)]))
            return [row for _, rows, _ in batches for row in rows]

    def _rerank(self, generation: Generation, items: Sequence[ImageItem], rows: Sequence[Row]) -> list[Row]:
        assert self.reranker is not None
        settings = generation.recognizer.settings
        asked: RerankSettings = settings.rerank.model_copy(update={"when": "always"})
        images = [
            None if isinstance(row, ErrorRow) else RankedImage(item) for item, row in zip(items, rows, strict=True)
        ]
        return rerank_rows(rows, images, self.reranker, asked, score=settings.score, limits=settings.images)


def most_together(recognizer: Recognizer) -> int:
    """Return how many images are encoded together at most.

    On a CPU larger batches are no faster, and all clients of one would be answered, and ask again, at the same time,
    while the encoder has nothing to do.
    """
    cores = torch.get_num_threads() if recognizer.encoder.device.type == "cpu" else None
    batch_size = recognizer.settings.run.batch_size
    return batch_size if cores is None else min(batch_size, PASS_SIZE * cores)
