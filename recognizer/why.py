"""Why one image got its label: the winner against the runner-up, term by term, as text and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from recognizer.errors import RecognizerError
from recognizer.images import ImageError
from recognizer.images.workers import WorkerPool
from recognizer.pictures import draw_row
from recognizer.recognizer import Recognizer
from recognizer.results import CandidateRow, ErrorRow, EvidenceRow, ResultRow
from recognizer.settings import EXEMPLAR, TERMS


@dataclass(frozen=True, slots=True)
class Explanation:
    """The comparison of two candidates.

    Attributes:
        row: the whole result of the image.
        image: the image, upright, mode RGB.
        displayed_size_hw: the frame of the evidence's boxes.
    """

    row: ResultRow
    image: Image.Image
    displayed_size_hw: tuple[int, int]

    @property
    def winner(self) -> CandidateRow:
        """The best candidate."""
        return self.row.candidates[0]

    @property
    def runner_up(self) -> CandidateRow | None:
        """The second candidate, None in a memory of one category."""
        return self.row.candidates[1] if len(self.row.candidates) > 1 else None

    def by_term(self) -> list[tuple[str, float, float]]:
        """Return (term, contribution to the winner, to the runner-up); columns add up to the two scores."""
        other = self.runner_up.evidence if self.runner_up else ()
        sums = [
            (term, contribution(self.winner.evidence, term), contribution(other, term)) for term in (*TERMS, EXEMPLAR)
        ]
        return [line for line in sums if line[1] or line[2]]

    def tables(self) -> Iterator[tuple[list[str], list[list[str]]]]:
        """Yield headings and rows: the two candidates term by term, then each one's pieces of evidence."""
        other = self.runner_up
        heading = ["term", self.winner.category, other.category if other else "(no runner-up)", "difference"]
        lines = [[term, f"{a:+.4f}", f"{b:+.4f}", f"{a - b:+.4f}"] for term, a, b in self.by_term()]
        total = (self.winner.score, other.score if other else 0.0)
        lines.append(["score", f"{total[0]:+.4f}", f"{total[1]:+.4f}", f"{total[0] - total[1]:+.4f}"])
        yield heading, lines
        for candidate in filter(None, (self.winner, other)):
            yield (
                [candidate.category, "value", "weight", "contribution", "description", "box x0,y0,x1,y1"],
                [_evidence_line(piece) for piece in candidate.evidence],
            )

    def draw(self) -> Image.Image:
        """Draw the winner's regions on the image."""
        return draw_row(self.image, self.row, displayed_size_hw=self.displayed_size_hw)


def explain_image(recognizer: Recognizer, path: Path) -> Explanation:
    """Recognise one file and keep what is needed to explain it.

    Raises:
        RecognizerError: the file cannot be decoded, or the memory has no categories.
    """
    try:
        decoded = WorkerPool(1).decode(path, limits=recognizer.settings.images)
    except ImageError as error:
        raise RecognizerError(f"{path} cannot be used: {error}") from error
    row = recognizer.recognize([decoded.image], keys=[path.name])[0]
    if isinstance(row, ErrorRow):
        raise RecognizerError(f"{path} cannot be used: {row.reason}")
    if not row.candidates:
        raise RecognizerError(f"the memory has no categories, so nothing can be said about {path}")
    return Explanation(row, decoded.image, decoded.displayed_size_hw)


def contribution(evidence: Sequence[EvidenceRow], term: str) -> float:
    """Sum the contributions of one term."""
    return sum(piece.contribution for piece in evidence if piece.term == term)


def _evidence_line(piece: EvidenceRow) -> list[str]:
    box = ",".join(f"{edge:.0f}" for edge in piece.box_xyxy) if piece.box_xyxy is not None else ""
    numbers = [f"{piece.value:+.4f}", f"{piece.weight:.4f}", f"{piece.contribution:+.4f}"]
    return [piece.term, *numbers, piece.description, box]
