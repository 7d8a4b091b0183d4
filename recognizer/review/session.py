"""The state of a review: which results are shown, in which order, what was said of them, and what the memory learnt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory import Category, Memory
from memory.category import Description, matching_category
from memory.wording import counted
from recognizer.boxes.given import Box
from recognizer.calibration.sample import copy_groups
from recognizer.corrections.again import Lesson, learn_again, learnt_path, score_again, with_run_of
from recognizer.corrections.log import (
    Correction,
    CorrectionLog,
    Verdict,
    drawn_corners,
    drawn_id,
    now,
    read_corrections,
)
from recognizer.corrections.queue import review_order
from recognizer.encoder import Encoder
from recognizer.exemplars import store_head
from recognizer.features import FeatureStore
from recognizer.features.stored_image import StoredImage
from recognizer.images import ImageItem
from recognizer.images.key import key_from_display
from recognizer.images.rooted import path_under
from recognizer.memory_settings import calibration_problem
from recognizer.recognizer import Recognizer
from recognizer.report.report import write_report
from recognizer.report.row_data import margin_of
from recognizer.reranking.file import EarlierResults, read_results
from recognizer.results.row import ResultRow, Row
from recognizer.settings import Settings
from recognizer.unknown.mining import labels_again

Vector = NDArray[np.float32]

MOST_IN_QUEUE = 20_000
"""Rows whose place in the queue the page is told; more than a person looks at."""
_MOST_CLUSTERED = 20_000  # images that are compared with each other
_MOST_FOUND = 20
_BATCH = 512


@dataclass
class ReviewSession:
    """A review of the results of one run.

    Attributes:
        results: of the run, a file or a folder; they are never changed.
        memory: directory or address of the memory that learns.
        log: takes the corrections.
        report: folder for the page.
        encoder: loads the encoder of the memory, when it is first needed.
        open_features: opens the stored features with it; yields None where there are none.
        settings_of: the settings for a memory.
        images: the folder of the images; None: the one that the run names.
        warn: called with sentences for the user.
    """

    results: Path
    memory: str | Path
    log: CorrectionLog
    report: Path
    encoder: Callable[[], Encoder]
    open_features: Callable[[Encoder], AbstractContextManager[FeatureStore | None]]
    settings_of: Callable[[Memory], Settings]
    warn: Callable[[str], None]
    images: Path | None = None
    _shown: dict[str, Row] = field(init=False, default_factory=dict)
    _queue: list[str] = field(init=False, default_factory=list)
    _clusters: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Read the results and write the page."""
        self._turn = threading.Lock()  # of what changes the memory or the page
        self._earlier = read_results(self.results, self.images)
        self._learnt = learnt_path(self.results)  # written anew at each learning of this review
        self._show(self.results)

    def state(self) -> dict[str, Any]:
        """Return what the page is told beside the rows: the order of review, copies, corrections and drawn boxes.

        The page was written before the latest corrections, which a reloaded page would not show.
        """
        latest = read_corrections(self.log.path).latest()
        drawn = [(one.path, one.xyxy, one.new, one.group) for one in latest.values() if one.xyxy is not None]
        said = {
            key: [one.verdict, one.new, one.group]
            for key, one in latest.items()
            if one.xyxy is None and key in self._shown
        }
        return {"queue": self._queue[:MOST_IN_QUEUE], "clusters": self._clusters, "said": said, "drawn": drawn}

    def correct(
        self,
        key: str,
        verdict: Verdict,
        *,
        id: str,
        new: str | None = None,
        group: str = "",
        xyxy: Box | None = None,
    ) -> None:
        """Keep what was said of a row, or of a box on its image; when this returns it is on the disk.

        Args:
            key: of the row.
            verdict: what was said.
            id: chosen by whoever said it.
            new: name of the category.
            group: of the category.
            xyxy: x_min, y_min, x_max, y_max in pixels of the displayed image, of a box that was drawn; None: it was
                said of the row.

        Raises:
            ValueError: there is no such row, or it makes no sense.
            CorrectionsUnusable: the disk refuses.
        """
        row = self._shown.get(key)
        if row is None:
            raise ValueError("there is no such row in these results")
        corners = None if xyxy is None else drawn_corners(xyxy)
        own = None if row.box is None else row.box.id
        self.log.append(
            [
                Correction(
                    id=id,
                    path=row.path,
                    box=own if corners is None else drawn_id(row.path, corners),
                    xyxy=corners,
                    verdict=verdict,
                    new=new,
                    group=group,
                    old=row.label if corners is None else None,
                    run=str(self._earlier.info.memory.get("digest", "")),
                    time=now(),
                )
            ]
        )

    def search(self, text: str) -> list[dict[str, str]]:
        """Return categories whose name has a part, the shortest names first."""
        part = text.casefold()
        found = [one for one in Memory.open(self.memory).bare_categories() if part in one.name.casefold()]
        found.sort(key=lambda one: (not one.name.casefold().startswith(part), len(one.name), one.name))
        return [{"name": one.name, "group": one.group} for one in found[:_MOST_FOUND]]

    def learn(self) -> str:
        """Teach the memory all corrections, score the results again and write the page anew; return a sentence."""
        with self._turn:
            said = read_corrections(self.log.path).latest()
            encoder = self.encoder()
            with self.open_features(encoder) as features:
                lesson = learn_again(
                    self.memory,
                    encoder,
                    self._earlier,
                    said,
                    self._learnt,
                    settings_of=self.settings_of,
                    features=features,
                    source=self.log.path,
                    warn=self.warn,
                )
            self._show(self._learnt)
            return _told(lesson)

    def describe(self, name: str, group: str, text: str) -> str:
        """Add descriptions to a category, score the results again and write the page anew; return a sentence.

        Args:
            name: of the category.
            group: of the category.
            text: one description, or several separated by semicolons, as in a label file.

        Raises:
            UnknownCategory: there is no such category.
            ValueError: there is no description, or one cannot be stored.
        """
        texts = [part for each in text.split(";") if (part := each.strip())]
        if not texts:
            raise ValueError("there is no description; write what can be seen, such as: striped tail; yellow beak")
        with self._turn:
            encoder = self.encoder()
            opened = Memory.open(self.memory)
            wanted = matching_category(opened.bare_categories(), Category(name, group).id)
            negatives = labels_again(opened)
            descriptions = tuple(Description(each, source="review") for each in texts)
            described = Category(wanted.name, wanted.group, descriptions)
            opened.add([described], encoder=encoder, negatives=negatives)
            store_head(opened)
            fresh = Memory.open(self.memory)
            with self.open_features(encoder) as features:
                settings = with_run_of(self.settings_of(fresh), self._earlier)
                recognizer = Recognizer(encoder, fresh, settings=settings, features=features)
                done = score_again(
                    recognizer,
                    self._earlier,
                    self._learnt,
                    touched={wanted.name},
                    source=self.log.path,
                    warn=self.warn,
                )
            self._show(self._learnt)
            told = f"{wanted.name} is described; {counted(len(done.changes), 'label')} changed since the run."
            return f"{told} {calibration_problem(fresh)}".rstrip()

    def close(self) -> None:
        """Close the file of corrections."""
        self.log.close()

    def _show(self, results: Path) -> None:
        """Write the page for results, and put their rows in order."""
        shown = self._earlier if results == self.results else read_results(results, self.images)
        write_report(
            results,
            self.report,
            images=self._earlier.root,
            against=None if results == self.results else self.results,
            corrections=self.log.path,
            review=True,
        )
        self._shown = {row.key: row for row in shown.rows}
        self._queue, self._clusters = self._ordered(shown)

    def _ordered(self, shown: EarlierResults) -> tuple[list[str], dict[str, int]]:
        """Return the keys of rows in the order of review, and by key the group of copies that it belongs to."""
        rows = [row for row in shown.results if row.candidates]
        rows.sort(key=lambda row: margin_of(row) or 0.0)
        vectors = self._vectors(rows[:_MOST_CLUSTERED], shown.root)
        if not vectors:
            return self._open_first([row.key for row in rows]), {}
        seen = [row for row in rows if row.key in vectors]
        stacked = np.stack([vectors[row.key][1] for row in seen])
        order = review_order(stacked, np.array([margin_of(row) or 0.0 for row in seen]))
        groups = copy_groups([vectors[row.key][0] for row in seen], stacked)
        counts = np.bincount(groups)
        clusters = {row.key: int(group) for row, group in zip(seen, groups, strict=True) if counts[group] > 1}
        queue = [*(seen[place].key for place in order), *(row.key for row in rows if row.key not in vectors)]
        return self._open_first(queue), clusters

    def _open_first(self, keys: Sequence[str]) -> list[str]:
        """Put the rows of which something was said behind the others."""
        said = read_corrections(self.log.path).latest()
        return sorted(keys, key=lambda key: key in said)

    def _vectors(self, rows: Sequence[ResultRow], root: Path) -> dict[str, tuple[str, Vector]]:
        """Return hash and vector of the images whose features are stored; boxes have none."""
        whole = [row for row in rows if row.box is None]
        places = [(row, path_under(root, key_from_display(row.path))) for row in whole]
        named = [(row.key, ImageItem(key_from_display(row.path), path)) for row, path in places if path is not None]
        found: dict[str, tuple[str, Vector]] = {}
        with self.open_features(self.encoder()) as features:
            if features is None:
                return {}
            for start in range(0, len(named), _BATCH):
                part = named[start : start + _BATCH]
                for (key, _), known in zip(part, features.look_up([item for _, item in part]), strict=True):
                    if isinstance(known.stored, StoredImage):
                        found[key] = (known.stored.sha256, known.stored.image.astype(np.float32))
        return found


def _told(lesson: Lesson) -> str:
    learnt, scored = lesson.learnt, lesson.scored
    sentence = (
        f"Learnt: {counted(learnt.exemplars, 'exemplar')}, "
        f"{counted(len(learnt.added), 'new category', 'new categories')}. Scored again: "
        f"{counted(scored.scored, 'row')}, of which {len(scored.changes)} have another label than in the run; "
        f"{counted(learnt.encoded + scored.encoded, 'image')} encoded."
    )
    if learnt.apart:
        sentence += (
            f" Of {learnt.apart} corrections kept apart, {learnt.before:.0%} were right before, and {learnt.after:.0%} "
            "are with what was learnt from the others."
        )
    return f"{sentence} {lesson.problem}".rstrip()
