"""Boxes for descriptions: the protocol of detectors, and what is done with their boxes whichever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import nms

from recognizer.encoder.device import choose_device
from recognizer.encoder.open_clip.catalogue import hub_silence, nothing_fetched
from recognizer.images import DecodedImage, ImageItem
from rerank.backends.local import weights_identity
from training.annotation.inputs import BareImage
from training.annotation.stage import Failed, Json
from training.errors import DataError

MASK = "mask"
"""The detector that needs no model."""
DETECT_STAGE = "boxes"
NMS_IOU = 0.5
"""Of two boxes of one description that overlap more, the one with the lower score is dropped; COCO's usual bound."""
_MOST_PER_DESCRIPTION = 20
# Of thousands of boxes above a low threshold the best enter NMS, whose time grows with the square.
_MOST_INTO_NMS = 1000
_ELSE = "give a directory, a hub name that is in the local cache, or mask"
BOX_DIGITS, SCORE_DIGITS = 2, 4
"""Decimals that are stored: hundredths of a pixel, far below any detector's error."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a detector found of one description.

    Attributes:
        boxes_xyxy: (N, 4) float32, in pixels of the displayed image; they may reach beyond it.
        scores: (N) float32, 0 to 1.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]


class Detector(Protocol):
    """Finds the boxes of described things."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def identity(self) -> str:
        """All that its boxes depend on, thresholds excepted: model, revision or hash of its weights, precision."""
        ...

    @property
    def input_size_hw(self) -> tuple[int, int] | None:
        """Smallest size at which images may be decoded; None: full size."""
        ...

    def shortened(self, descriptions: Sequence[str]) -> list[str]:
        """Return the texts of one image as short as the detector's text limit wants them; their number stays."""
        ...

    def prepare(self, item: ImageItem, decoded: DecodedImage) -> Any:  # noqa: ANN401  each has its own input
        """Make the input of one image, on the CPU; called from several threads."""
        ...

    def detect(
        self, prepared: Sequence[Any], descriptions: Sequence[Sequence[str]], threshold: float
    ) -> list[list[Found]]:
        """Detect all descriptions of a batch of images in one forward pass.

        Args:
            prepared: (B) what `prepare` made.
            descriptions: (B) of each image, at least one; their numbers may differ.
            threshold: lowest score.

        Returns:
            For each image and each of its descriptions the boxes with at least this score, in any order.
        """
        ...


Pretrained: TypeAlias = Any
"""A class of transformers, of which it has no types here, with `from_pretrained`."""


def load_network(
    processor_class: Pretrained, network_class: Pretrained, model: str, *, revision: str | None, device: torch.device
) -> tuple[Any, Any, str]:
    """Load a detector of transformers.

    Args:
        processor_class: reads its processor.
        network_class: reads its network.
        model: directory or hub name.
        revision: commit of a hub model.
        device: where it computes, in float32.

    Returns:
        Processor, network, and the identity of its weights.
    """
    processor = processor_class.from_pretrained(model, revision=revision)
    network = network_class.from_pretrained(model, revision=revision, use_safetensors=True).float().to(device).eval()
    commit = getattr(network.config, "_commit_hash", None) or revision
    return processor, network, weights_identity(model, commit)


def found_above(boxes_cxcywh: Tensor, scores: Tensor, threshold: float) -> Found:
    """Select the boxes with at least a score.

    Args:
        boxes_cxcywh: (N, 4) centre and size, in displayed pixels.
        scores: (N) of one description.
        threshold: lowest score.
    """
    kept = scores >= threshold
    centre, half = boxes_cxcywh[kept, :2], boxes_cxcywh[kept, 2:] / 2
    return Found(torch.cat([centre - half, centre + half], 1).numpy(), scores[kept].numpy())


def best_boxes(found: Found, displayed_size_hw: tuple[int, int]) -> list[list[float]]:
    """Clip the boxes of one description to the image, suppress near-copies and keep the best.

    Args:
        found: boxes in any number; boxes without area, after clipping too, and values that are not finite are dropped.
        displayed_size_hw: height and width of the image in pixels.

    Returns:
        (x0, y0, x1, y1, score) of each, by falling score; rounded, as they are stored.
    """
    height, width = displayed_size_hw
    boxes = np.asarray(found.boxes_xyxy, np.float64).reshape(-1, 4)
    scores = np.asarray(found.scores, np.float64)
    finite = np.isfinite(boxes).all(1) & np.isfinite(scores)
    boxes, scores = boxes[finite], scores[finite]
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float64)).round(BOX_DIGITS)
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores = boxes[has_area], scores[has_area]
    order = np.argsort(-scores, kind="stable")[:_MOST_INTO_NMS]
    boxes, scores = boxes[order], scores[order]
    kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), NMS_IOU)[:_MOST_PER_DESCRIPTION].numpy()
    return [[*map(float, boxes[i]), round(float(scores[i]), SCORE_DIGITS)] for i in kept]


@dataclass(frozen=True, slots=True)
class DetectStage:
    """Detects the descriptions of each image; the result has the boxes of each, as `best_boxes` returns them.

    Attributes:
        detector: the detector.
        threshold: lowest score of a box.
        phrases: returns the descriptions of an image, from its texts and the earlier results.
        batch_size: images per forward pass.
    """

    detector: Detector
    threshold: float
    phrases: Callable[[BareImage, Mapping[str, Json]], Sequence[str]]
    batch_size: int
    name: str = DETECT_STAGE

    @property
    def settings(self) -> Mapping[str, Json]:
        """Detector and thresholds."""
        return {"model": self.detector.identity, "threshold": self.threshold, "nms_iou": NMS_IOU}

    @property
    def target_size_hw(self) -> tuple[int, int] | None:
        """See `Stage`."""
        return self.detector.input_size_hw

    def question(self, image: BareImage, earlier: Mapping[str, Json]) -> Json:
        """See `Stage`."""
        return self.detector.shortened(self.phrases(image, earlier)) or None

    def prepare(self, item: ImageItem, decoded: DecodedImage, question: Json) -> tuple[Any, tuple[int, int]]:
        """See `Stage`."""
        return self.detector.prepare(item, decoded), decoded.displayed_size_hw

    def answer(self, questions: Sequence[Json], prepared: Sequence[Any]) -> list[Json | Failed]:
        """See `Stage`; where memory runs out the batch is halved, and an image that does not fit alone fails."""
        try:
            found = self.detector.detect([each for each, _ in prepared], questions, self.threshold)
        except torch.OutOfMemoryError:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(questions) == 1:
                return [Failed("out of memory")]
            half = len(questions) // 2
            return [
                *self.answer(questions[:half], prepared[:half]),
                *self.answer(questions[half:], prepared[half:]),
            ]
        return [
            [best_boxes(of_description, size_hw) for of_description in of_image]
            for of_image, (_, size_hw) in zip(found, prepared, strict=True)
        ]


def check_detector(name: str, revision: str | None = None) -> str:
    """Find out which kind of detector a name stands for, without loading weights; within seconds.

    Args:
        name: `mask`, or a directory or hub name of an OWLv2 or Grounding DINO model.
        revision: commit of a hub model.

    Returns:
        `mask`, `owlv2` or `grounding-dino`.

    Raises:
        DataError: there is no such model here, or it is of another kind.
    """
    if name == MASK:
        return MASK
    from transformers import AutoConfig

    with _loading(name):
        kind = str(AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False).model_type)
    if kind not in ("owlv2", "grounding-dino"):
        raise DataError(f"{name!r} is a model of type {kind!r}; detectors are OWLv2 (owlv2) and Grounding DINO")
    return kind


def open_detector(name: str, *, revision: str | None = None, device: str = "auto") -> Detector:
    """Open a detector.

    Args:
        name: see `check_detector`.
        revision: commit of a hub model.
        device: see `recognizer.encoder.device.choose_device`.

    Raises:
        DataError: the model cannot be loaded, or is of another kind.
        EncoderError: the device does not exist.
    """
    kind = check_detector(name, revision)
    if kind == MASK:
        from training.annotation.masks import MaskDetector

        return MaskDetector()
    chosen = choose_device(device)
    with _loading(name):
        if kind == "owlv2":
            from training.annotation.owlv2 import Owlv2Detector

            return Owlv2Detector(name, revision=revision, device=chosen)
        from training.annotation.grounding_dino import GroundingDinoDetector

        return GroundingDinoDetector(name, revision=revision, device=chosen)


def open_detect_stage(
    device: str, *, name: str, revision: str | None, threshold: float, batch_size: int
) -> DetectStage:
    """Open the stage as an actor of Ray needs it: what is asked, it does not decide."""
    return DetectStage(open_detector(name, revision=revision, device=device), threshold, lambda *_: (), batch_size)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Turn what a library raises over a model that it cannot load into a sentence.

    Nothing is fetched for a folder, and where the hub does not answer: its library would try again for half a minute.
    """
    is_folder = Path(name).is_dir()
    if not is_folder and name.startswith(("/", "./", "../", "~")):
        raise DataError(f"there is no directory {name} with a detector; {_ELSE}")
    silence = "" if is_folder else hub_silence()
    try:
        with nothing_fetched() if silence else nullcontext():
            yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).splitlines()[0]
        if silence and isinstance(error, OSError):
            reason = f"its files are not in the local cache, and {silence}"
        raise DataError(f"cannot load {name!r} as a detector: {reason}{'' if is_folder else f'; {_ELSE}'}") from error
