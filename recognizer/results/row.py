"""One row of the results: what was recognised in one image, or why the image failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple

from memory import Category
from memory.lineage import join_levels, levels
from recognizer.hierarchy.roll_up import NO_ANSWER, paths_above, roll_up
from recognizer.hierarchy.rule import LabelRule
from recognizer.notebook import Shown
from recognizer.results.rounding import rounded, rounded_box, rounded_confidence

if TYPE_CHECKING:
    from recognizer.images import ImageSource

CATEGORY: Final = "category"
ROLLED_UP: Final = "rolled up"


class EvidenceRow(NamedTuple):
    """One summand of a score; a tuple, because a run makes dozens an image, and tuples are made several times as fast.

    Attributes:
        term: name of the term of the score, e.g. ``region_description``.
        description: the text that was compared; empty if the term has none.
        region: index of the region; None if the whole image was compared.
        box_xyxy: (x_min, y_min, x_max, y_max) in pixels of the displayed image; None without a region.
        value: the similarity.
        weight: its factor in the score.
        contribution: weight times value, the summand itself.
    """

    term: str
    description: str
    region: int | None
    box_xyxy: Sequence[float] | None
    value: float
    weight: float
    contribution: float

    def to_dict(self) -> dict[str, Any]:
        """Return the piece of evidence as plain JSON values, numbers rounded."""
        return {
            "term": self.term,
            "description": self.description,
            "region": None if self.region is None else int(self.region),
            "box_xyxy": None if self.box_xyxy is None else rounded_box(self.box_xyxy),
            "value": rounded(self.value),
            "weight": rounded(self.weight),
            "contribution": rounded(self.contribution),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateRow:
    """One category in the ranking of an image.

    Attributes:
        category: its name.
        group: its group; left out of the row if empty.
        ranks: of the levels of its group, from the top, such as family; None where unknown, empty and left out of the
            row where none is known or labels are not rolled up.
        score: the sum of the contributions of `evidence`.
        confidence: probability over all categories of the memory, in [0, 1].
        evidence: the summands of the score.
    """

    category: str
    score: float
    confidence: float
    evidence: Sequence[EvidenceRow] = ()
    group: str = ""
    ranks: Sequence[str | None] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the candidate as plain JSON values, numbers rounded."""
        return {**self.head(), "evidence": [piece.to_dict() for piece in self.evidence]}

    def head(self) -> dict[str, Any]:
        """Return what stands before the evidence."""
        return {
            "category": self.category,
            **({"group": self.group} if self.group else {}),
            **({"ranks": list(self.ranks)} if self.ranks else {}),
            "score": rounded(self.score),
            "confidence": rounded_confidence(self.confidence),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLabel:
    """One of several labels of an image.

    Attributes:
        category: its name.
        group: its group; left out of the row if empty.
        presence: probability of the category in the region that shows it best, in [0, 1].
        box_xyxy: that region, (x_min, y_min, x_max, y_max) in pixels of the displayed image; None: the whole image.
    """

    category: str
    group: str = ""
    presence: float
    box_xyxy: Sequence[float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the label as plain JSON values, numbers rounded."""
        return {
            "category": self.category,
            **({"group": self.group} if self.group else {}),
            "presence": rounded_confidence(self.presence),
            "box_xyxy": None if self.box_xyxy is None else rounded_box(self.box_xyxy),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRow:
    """What the rule by negative labels says of an image.

    Attributes:
        score: confidence of the best name, lowered where negative labels fit the image, too; in [0, 1].
        threshold: below it the image is unknown; None: nothing is known to set it by.
        category: the best name by the whole image.
        negative: the nearest negative label.
    """

    score: float
    threshold: float | None
    category: str
    negative: str

    @property
    def unknown(self) -> bool | None:
        """Whether the image seems to show none of the categories; None without a threshold."""
        return None if self.threshold is None else self.score < self.threshold

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values, numbers rounded."""
        return {
            "score": rounded_confidence(self.score),
            "threshold": None if self.threshold is None else rounded_confidence(self.threshold),
            "category": self.category,
            "negative": self.negative,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBox:
    """The box that a row is about.

    Attributes:
        id: its name within its image.
        xyxy: (x_min, y_min, x_max, y_max) in pixels of the displayed image; None where it could not be placed in it.
        category: its name according to whoever gave the box; None: none was given.
        confidence: of the detector, in [0, 1]; None: none was given.
    """

    id: str
    xyxy: Sequence[float] | None = None
    category: str | None = None
    confidence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the box as plain JSON values, numbers rounded."""
        return {
            "id": self.id,
            "xyxy": None if self.xyxy is None else rounded_box(self.xyxy),
            "category": self.category,
            "confidence": None if self.confidence is None else rounded_confidence(self.confidence),
        }


def box_key(path: str, box_id: str | None) -> str:
    """Return the key of a row: the path of its image, with the name of its box behind it if it is about one."""
    return path if box_id is None else f"{path}#{box_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow(Shown):
    """What was recognised in one image.

    Attributes:
        path: key of the image.
        path_b64: the bytes of the key in base64 if `path` is escaped, else None.
        box: the box that was recognised; None: the whole image was.
        status: `ok`, `below` where nothing has the confidence that a label needs, or `empty` for an image
            without a box in a run over boxes, which was not opened.
        width: of the displayed image in pixels; None in rows of earlier releases.
        height: likewise.
        label: name of the first category, or of a group above it where labels are rolled up; None in a memory without
            categories, and with the status `below`.
        confidence: that of the label, in [0, 1]; without a label that of the first category.
        calibrated: whether the confidence was fitted on labelled images.
        unknown: whether the image seems to show none of the categories; None where no threshold is known.
        known: what `unknown` is decided by, where negative labels decide; None where confidences do.
        candidates: the ranking, best first.
        group_confidence: by path of a group, the sum of the confidences of all categories below it, largest first: the
            largest groups and all above the candidates; None where no category has a group.
        labels: all that the image shows, most certain first; None unless several labels were asked for.
        label_level: how many levels the path of the label has: 1 for a group at the top; None unless labels are rolled
            up.
        label_rank: the rank of a label that is a group, such as family; None where it is unknown.
        label_path: the levels of the label, from the top, with ` > ` between them; None likewise.
        source: whether the label is a `category` or was `rolled up` to a group; None likewise.
        rerank: outcome of the reranking (status, model, order); None without reranking.
        image: what a notebook shows as its picture; it is not written. None: unknown.
    """

    path: str
    path_b64: str | None = None
    box: RowBox | None = None
    status: Literal["ok", "below", "empty"] = "ok"
    width: int | None = None
    height: int | None = None
    label: str | None
    confidence: float | None
    calibrated: bool
    unknown: bool | None
    candidates: Sequence[CandidateRow]
    group_confidence: Mapping[str, float] | None = None
    labels: Sequence[FoundLabel] | None = None
    label_level: int | None = None
    label_rank: str | None = None
    label_path: str | None = None
    source: Literal["category", "rolled up"] | None = None
    rerank: Mapping[str, Any] | None = None
    known: KnownRow | None = None
    image: ImageSource | None = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> str:
        """What tells the row from all others of its run."""
        return box_key(self.path, None if self.box is None else self.box.id)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values, in the order in which they are written."""
        return {
            **self.head(),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "rerank": None if self.rerank is None else dict(self.rerank),
        }

    def head(self) -> dict[str, Any]:
        """Return what stands before the candidates and the reranking."""
        groups = self.group_confidence and {n: rounded_confidence(c) for n, c in self.group_confidence.items()}
        return {
            **_head(self.path, self.path_b64, self.box, self.status),
            **({} if self.width is None else {"width": int(self.width)}),
            **({} if self.height is None else {"height": int(self.height)}),
            "label": self.label,
            **({} if self.label_level is None else {"label_level": int(self.label_level)}),
            **({} if self.label_rank is None else {"label_rank": self.label_rank}),
            **({} if self.label_path is None else {"label_path": self.label_path}),
            **({} if self.source is None else {"source": self.source}),
            "confidence": None if self.confidence is None else rounded_confidence(self.confidence),
            "calibrated": bool(self.calibrated),
            "unknown": None if self.unknown is None else bool(self.unknown),
            **({} if self.known is None else {"known": self.known.to_dict()}),
            **({} if groups is None else {"group_confidence": groups}),
            **({} if self.labels is None else {"labels": [label.to_dict() for label in self.labels]}),
        }

    def with_label(self, rule: LabelRule) -> ResultRow:
        """Return the row labelled with its first candidate, or with a group above it where labels are rolled up.

        Args:
            rule: what a label needs; where nothing has it, the label is None and the status `below`.
        """
        if not self.candidates:
            return replace(self, status="ok", label=None, confidence=None)
        best = self.candidates[0]
        sums = {} if rule.thresholds is None else self.group_confidence or {}
        above = paths_above(best.category, best.group, sums) if sums else []
        level = roll_up(best.confidence, [sums[path] for path in above], rule.needed)
        label: dict[str, Any] = {"status": "ok", "label": best.category, "confidence": best.confidence}
        label |= {"label_level": None, "label_rank": None, "label_path": None, "source": None}
        if level == NO_ANSWER:
            label |= {"status": "below", "label": None}
        elif rule.thresholds is not None:
            path = Category(best.category, best.group).path if level == 0 else levels(above[level - 1])
            label |= {
                "label": path[-1],
                "confidence": best.confidence if level == 0 else sums[above[level - 1]],
                "label_level": len(path),
                "label_rank": best.ranks[len(path) - 1] if level and len(path) <= len(best.ranks) else None,
                "label_path": join_levels(path),
                "source": ROLLED_UP if level else CATEGORY,
            }
        return replace(self, **label)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRow(Shown):
    """Why an image could not be recognised.

    Attributes:
        path: key of the image.
        path_b64: the bytes of the key in base64 if `path` is escaped, else None.
        box: the box that was to be recognised; None: the whole image was.
        code: a stable code such as ``E_TRUNCATED``.
        reason: one printable line.
        image: as of a `ResultRow`.
        label: None, so that code that reads the labels of all rows need not ask which are errors.
        confidence: None, likewise.
        candidates: empty, likewise.
    """

    path: str
    path_b64: str | None = None
    box: RowBox | None = None
    code: str
    reason: str
    image: ImageSource | None = field(default=None, repr=False, compare=False)
    label: ClassVar[None] = None
    confidence: ClassVar[None] = None
    candidates: ClassVar[Sequence[CandidateRow]] = ()

    @property
    def key(self) -> str:
        """What tells the row from all others of its run."""
        return box_key(self.path, None if self.box is None else self.box.id)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values, in the order in which they are written."""
        head = _head(self.path, self.path_b64, self.box, "error")
        return {**head, "error": {"code": self.code, "reason": self.reason}}


Row = ResultRow | ErrorRow


def unlabelled_row(path: str, path_b64: str | None) -> ResultRow:
    """Return the row of an image in which no category was looked for."""
    return ResultRow(
        path=path, path_b64=path_b64, label=None, confidence=None, calibrated=False, unknown=None, candidates=[]
    )


def parse_row(content: Mapping[str, Any]) -> Row:
    """Make a row from its JSON object; the inverse of `to_dict`.

    Raises:
        KeyError: a field is missing.
        TypeError: the object is not a row.
    """
    box = content.get("box")
    head = {"path": content["path"], "path_b64": content.get("path_b64"), "box": None if box is None else RowBox(**box)}
    if content["status"] == "error":
        return ErrorRow(**head, code=content["error"]["code"], reason=content["error"]["reason"])
    labels, known = content.get("labels"), content.get("known")
    return ResultRow(
        **head,
        status=content["status"],
        width=content.get("width"),
        height=content.get("height"),
        label=content["label"],
        label_level=content.get("label_level"),
        label_rank=content.get("label_rank"),
        label_path=content.get("label_path"),
        source=content.get("source"),
        confidence=content["confidence"],
        calibrated=content["calibrated"],
        unknown=content["unknown"],
        candidates=[_candidate(candidate) for candidate in content["candidates"]],
        group_confidence=content.get("group_confidence"),
        labels=None if labels is None else [FoundLabel(**label) for label in labels],
        rerank=content.get("rerank"),
        known=None if known is None else KnownRow(**known),
    )


def _candidate(content: Mapping[str, Any]) -> CandidateRow:
    return CandidateRow(
        category=content["category"],
        group=content.get("group", ""),
        ranks=content.get("ranks", ()),
        score=content["score"],
        confidence=content["confidence"],
        evidence=[EvidenceRow(**piece) for piece in content["evidence"]],
    )


def _head(path: str, path_b64: str | None, box: RowBox | None, status: str) -> dict[str, Any]:
    return {
        "path": path,
        **({"path_b64": path_b64} if path_b64 else {}),
        **({} if box is None else {"box": box.to_dict()}),
        "status": status,
    }
