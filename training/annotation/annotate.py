"""The whole annotation: texts by an MLLM or from a file, boxes by a detector, one stage after the other, then records.

The MLLM is closed before the detector is opened, so that one GPU holds one of them at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from recognizer.console import Advance, progress_bar
from recognizer.encoder.device import choose_device
from recognizer.errors import RecognizerError
from recognizer.images import ImageLimits
from recognizer.reranking.open import open_writer, require_writer
from recognizer.settings import RerankSettings
from rerank.mllm import Mllm, MllmUnavailable
from training.annotation.asking import asking_stages
from training.annotation.detector import Detector, DetectStage, check_detector, open_detect_stage, open_detector
from training.annotation.gates import Gates, ScoreStage
from training.annotation.inputs import BareImages
from training.annotation.output import Recipe, Report, write_output, write_report
from training.annotation.stage import Compute, Json, Stage, Work, compute_here, look, run_stage
from training.annotation.store import Store
from training.annotation.texts import TextRules
from training.errors import DataError

OWLV2 = "google/owlv2-base-patch16-ensemble"
"""GRAIN's detector."""
Bar = Callable[[int, str, str], AbstractContextManager[Advance]]


@dataclass(frozen=True, slots=True)
class AnnotationSettings:
    """What annotates, and how.

    Attributes:
        detector: see `detector.open_detector`.
        detector_revision: commit of a hub model.
        threshold: lowest score of a box; GRAIN's is 0.3.
        detector_batch: images per forward pass.
        most_boxes: boxes of an image that are kept, those of the highest scores.
        mllm: how the MLLM is asked, with a model; None: no MLLM.
        mllm_batch: images per batch of questions; None: what keeps the MLLM busy.
        known: descriptions by subject, see `inputs.read_descriptions`.
        gates: bounds of descriptions and boxes.
        gate_encoder: encoder that scores descriptions, of which those below the mean of their image are left out; None:
            no such gate.
        sources: further facts for every record, such as the file of descriptions.
        device: of detector and encoder.
        workers: decoding processes; 0: one per core.
        limits: of images.

    Raises:
        ValueError: a number is out of its range.
    """

    detector: str = OWLV2
    detector_revision: str | None = None
    threshold: float = 0.3
    detector_batch: int = 8
    most_boxes: int = 10
    mllm: RerankSettings | None = None
    mllm_batch: int | None = None
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    gates: Gates = field(default_factory=Gates)
    gate_encoder: str | None = None
    sources: Mapping[str, Json] = field(default_factory=dict)
    device: str = "auto"
    workers: int = 0
    limits: ImageLimits = field(default_factory=ImageLimits)

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"the threshold is {self.threshold:g}; give a score from 0 to 1")
        for name, value in (
            ("detector batch", self.detector_batch),
            ("MLLM batch", self.mllm_batch),
            ("number of boxes", self.most_boxes),
        ):
            if value is not None and value < 1:
                raise ValueError(f"the {name} is {value}; give 1 or more")


@dataclass(frozen=True, slots=True)
class Annotated:
    """The outcome of `annotate`.

    Attributes:
        report: what became of the images.
        unanswered: how often a stage had no result, by name and reason; the next run asks again.
        calls: batches that each stage computed in this run.
    """

    report: Report
    unanswered: Mapping[tuple[str, str], int]
    calls: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OnRay:
    """Ray, on which MLLM and detector compute, each for the time of its stages.

    Attributes:
        address: of a cluster; None: Ray is started on this machine.
    """

    address: str | None

    def opened_mllm(self, settings: RerankSettings) -> AbstractContextManager[Mllm]:
        """Open copies of the MLLM there."""
        from recognizer.engine.mllm import mllm_on_ray

        return mllm_on_ray(self.address, settings, one_token=False)

    def detecting(self, settings: AnnotationSettings, warn: Callable[[str], object]) -> Compute:
        """Return what detects there."""
        from training.annotation.on_ray import compute_on_ray

        open_stage = partial(
            open_detect_stage,
            name=settings.detector,
            revision=settings.detector_revision,
            threshold=settings.threshold,
            batch_size=settings.detector_batch,
        )
        return compute_on_ray(self.address, open_stage, device=settings.device, warn=warn)


def store_path(output: Path) -> Path:
    """Return the path of the stages' results, beside the output."""
    return output.with_name(f"{output.name}.annotation.sqlite")


def report_path(output: Path) -> Path:
    """Return the path of the report, beside the output."""
    return output.with_name(f"{output.name}.annotation.json")


def annotate(
    images: BareImages,
    output: Path,
    settings: AnnotationSettings,
    *,
    warn: Callable[[str], None] | None = None,
    bar: Bar = progress_bar,
    mllm: Mllm | None = None,
    detector: Detector | None = None,
    ray: OnRay | None = None,
) -> Annotated:
    """Annotate images; call it again with the same output to resume.

    Whatever was asked or computed for an output is stored beside it, and not asked or computed again: also not with
    other images, gates or numbers of boxes.

    Args:
        images: to annotate.
        output: a manifest (`.jsonl`), or a folder of shards; replaced.
        settings: what annotates, and how.
        warn: called with a sentence about failures of the MLLM; it may hold foreign text, not escaped.
        bar: makes the progress bar of a stage from the number of images, their unit and the name of the stage.
        mllm: an open one, in place of the one that the settings name; it is closed.
        detector: an open one, likewise.
        ray: where the MLLM and the detector compute; None: here.

    Raises:
        EngineError: Ray is missing or cannot be reached, or an actor failed.
        DataError: the results cannot be stored, or the detector cannot be loaded.
        MllmUnavailable: the MLLM cannot be opened.
        EncoderError: there is no such device.
        WriteFailed: the disk refuses.
    """
    _check_models(settings, mllm, detector, ray)  # before images are read and the MLLM writes for hours
    rules = TextRules(settings.known, settings.gates)
    stages: list[Stage] = []

    def run(new: Sequence[Stage], compute: Compute = compute_here) -> None:
        for stage in new:
            with bar(len(images), "img", stage.name) as advance:
                run_stage(stage, stages, work, advance, compute)
            stages.append(stage)

    with Store(store_path(output)) as store:
        work = Work(images, store, limits=settings.limits, workers=settings.workers)
        with bar(len(images), "img", "look") as advance:
            look(work, advance)
        if settings.mllm is not None:
            # Without a cache: the stages store the replies.
            uncached = settings.mllm.model_copy(update={"cache": "off"})
            with nullcontext(mllm) if ray is None else ray.opened_mllm(uncached) as opened_mllm:
                writer = open_writer(uncached, warn=warn, mllm=opened_mllm)
                try:
                    size, batch = settings.mllm.image_size, settings.mllm_batch
                    run(asking_stages(writer, image_size=size, batch_size=batch, known=settings.known))
                finally:
                    writer.close()
        if settings.gate_encoder is not None:
            from recognizer.encoder import Encoder

            encoder = Encoder.load(settings.gate_encoder, device=settings.device)
            run([ScoreStage(encoder, rules.to_score)])
        # With Ray, the one here says how descriptions are shortened, and what boxes depend on.
        device = settings.device if ray is None else "cpu"
        opened = detector or open_detector(settings.detector, revision=settings.detector_revision, device=device)
        stage = DetectStage(opened, settings.threshold, rules.to_detect, settings.detector_batch)
        run([stage], compute_here if ray is None else ray.detecting(settings, warn or _say_nothing))
        recipe = Recipe(stages, rules, opened, settings.most_boxes, {"gates": _gates(settings), **settings.sources})
        report = write_output(output, recipe, work)
        report.counts.update(images.left_out)
        write_report(report_path(output), report, recipe, work.unanswered)
    return Annotated(report, work.unanswered, work.calls)


def _check_models(
    settings: AnnotationSettings, mllm: Mllm | None, detector: Detector | None, ray: OnRay | None
) -> None:
    """Refuse models that cannot be opened; where several cannot, one error says so of all of them."""
    faults: list[RecognizerError | MllmUnavailable] = []
    # With Ray, devices are those of other machines, and so is the way to the server.
    if ray is None:
        with _noting(faults):
            choose_device(settings.device)
    if settings.mllm is not None and mllm is None:
        with _noting(faults):
            require_writer(settings.mllm, here=ray is None)
    if detector is None:
        with _noting(faults):
            check_detector(settings.detector, settings.detector_revision)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise DataError(". ".join(str(fault).rstrip(".") for fault in faults))


@contextmanager
def _noting(faults: list[RecognizerError | MllmUnavailable]) -> Iterator[None]:
    try:
        yield
    except (RecognizerError, MllmUnavailable) as fault:
        faults.append(fault)


def _say_nothing(sentence: str) -> None:
    del sentence


def _gates(settings: AnnotationSettings) -> dict[str, Json]:
    gates = {"max_overlap": settings.gates.max_overlap, "max_area": settings.gates.max_area}
    return {**gates, "above_mean_of": settings.gate_encoder, "most_boxes": settings.most_boxes}
