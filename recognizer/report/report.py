"""Write a report: the rows of a run as scripts, their pictures, and the page that shows them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from memory import Category
from memory.wording import counted
from recognizer.corrections.log import read_corrections
from recognizer.images.key import key_from_display
from recognizer.images.limits import ImageLimits
from recognizer.images.rooted import path_under
from recognizer.report.against import ComparedCounts, OtherRun, differing_settings
from recognizer.report.columns import NO_LABEL, ROWS_PER_SCRIPT, Columns
from recognizer.report.folder import image_root, new_folder, require_apart, require_replaceable
from recognizer.report.page import write_page
from recognizer.report.row_data import Status, details_of
from recognizer.report.scripts import script_json, write_call, write_text
from recognizer.report.thumbs import PictureCounts, choose_rows, make_pictures, size_in_bytes
from recognizer.report.truth import Truth, TruthCounts, memory_categories
from recognizer.results.reading import StoredResults, open_stored
from recognizer.results.row import ErrorRow, box_key
from recognizer.results.run_info import utc_now

MOST_PICTURES = 5_000
"""Pictures of a report: about 150 MB, and two minutes on two cores for photographs of 2 megapixels."""
ROWS_PER_DETAILS = 200
"""Rows whose details are in one script: about 1 MB, which a browser reads while a key is pressed."""
THUMBS = "thumbs"
Progress = Callable[[int], AbstractContextManager[Callable[[int], object]]]


def _no_progress(total: int) -> AbstractContextManager[Callable[[int], object]]:
    del total
    return nullcontext(lambda done: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report that was written.

    Attributes:
        index: the page to open.
        rows: number of rows.
        damaged: lines of the results that hold no row.
        finished: whether the run has written all its rows.
        images_known: whether there is a folder in which images may be opened.
        pictures: how many rows have a picture.
        picture_bytes: size of all pictures.
        truth: how the rows compare with the truth; None without one.
        compared: how the rows compare with those of the other run; None without one.
    """

    index: Path
    rows: int
    damaged: int
    finished: bool
    images_known: bool
    pictures: PictureCounts
    picture_bytes: int
    truth: TruthCounts | None = None
    compared: ComparedCounts | None = None

    def sentences(self) -> Iterator[str]:
        """Yield what a reader of the page has to know about it."""
        if not self.finished:
            yield "The run is not finished: these are the rows that it has written so far."
        if self.damaged:
            yield f"{counted(self.damaged, 'line')} of the results could not be read and {_is(self.damaged)} left out."
        if not self.images_known and self.rows:
            yield "There are no pictures, for nothing says where the images are; name their folder with --images."
        if self.pictures.left:
            yield (
                f"{counted(self.pictures.made, 'picture')} ({self.picture_bytes / 1e6:.1f} MB), of the rows of the "
                f"smallest margin; {self.pictures.left} others have none (--pictures N makes more)."
            )
        if self.pictures.outside:
            yield (
                f"The images of {counted(self.pictures.outside, 'row')} lie outside of the folder and are not opened "
                "(--images names another folder)."
            )
        if self.pictures.unreadable:
            yield f"The images of {counted(self.pictures.unreadable, 'row')} cannot be read now."
        if self.compared is not None and not self.compared.both and self.rows:
            yield (
                "No row is in both runs, so nothing is compared. Rows are matched by the path of their image, which is "
                "another one where the runs were given other folders, or one of them --absolute-paths."
            )
        if self.truth is not None:
            yield from self.truth.sentences(self.rows)


@dataclass(slots=True)
class _Gathered:
    """What is known after all rows were read."""

    columns: Columns = field(default_factory=Columns)
    categories: dict[tuple[str, str], None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    damaged: int = 0


def write_report(
    results: Path,
    output: Path,
    *,
    images: Path | None = None,
    truth: Path | None = None,
    against: Path | None = None,
    corrections: Path | None = None,
    review: bool = False,
    most_pictures: int = MOST_PICTURES,
    limits: ImageLimits | None = None,
    workers: int = 0,
    progress: Progress = _no_progress,
) -> Report:
    """Write the results of a run as a page.

    Args:
        results: of `run` or `rerank`; also of a run that was interrupted.
        output: folder for the page; an earlier report is replaced.
        images: the folder of the images, without which none is opened; None: the one that the run names.
        truth: true labels, as for `recognizer eval`.
        against: results of another run of the same images.
        corrections: what people said of the rows, as `review` writes it.
        review: make a page with which a server takes corrections.
        most_pictures: rows with a picture at most; those of the smallest margin.
        limits: of decoding.
        workers: images decoded at a time; 0: one per core.
        progress: opened with the number of rows that get a picture, and told how many are done.

    Raises:
        ResultsUnreadable: one of the files holds no results.
        LabelledSetError: the truth cannot be read.
        ReportRefused: the output is something else, or lies in the folder of the images.
        WriteFailed: the disk refuses.
    """
    stored = open_stored(results)
    require_replaceable(output)
    root = image_root(stored, images)
    if root is not None:
        require_apart(output, [root])
    true_labels = None if truth is None else Truth(truth)
    other = None if against is None else OtherRun(against)
    with new_folder(output) as folder:
        (folder / "rows").mkdir()
        (folder / THUMBS).mkdir()
        gathered = _write_details(stored, other, folder / "rows")
        columns = gathered.columns
        truth_counts = None
        if true_labels is not None:
            categories = memory_categories(stored.info)
            truth_counts = true_labels.compare(
                columns,
                _places(columns, root),
                list(_categories(gathered)) if categories is None else categories,
                is_all=categories is not None,
            )
        if corrections is not None:
            _mark_corrected(columns, corrections)
        chosen, left = choose_rows(columns, most_pictures if root is not None else 0)
        with progress(len(chosen)) as advance:
            pictures = make_pictures(
                columns,
                chosen,
                _allowed(columns, root, chosen),
                folder / THUMBS,
                earlier=output / THUMBS,
                limits=limits or ImageLimits(),
                workers=workers,
                advance=advance,
            )
        pictures.left = left if root is not None else 0
        for number, chunk in enumerate(columns.chunks()):
            write_call(folder / "rows" / f"rows-{number:03}.js", "report.addRows", number * ROWS_PER_SCRIPT, chunk)
        report = Report(
            index=output / "index.html",
            rows=len(columns),
            damaged=gathered.damaged,
            finished=stored.is_finished,
            images_known=root is not None,
            pictures=pictures,
            picture_bytes=size_in_bytes(folder / THUMBS),
            truth=truth_counts,
            compared=None if other is None else other.counts(columns),
        )
        write_call(folder / "rows" / "summary.js", "report.open", _summary(report, stored, gathered, other))
        write_page(folder, title=stored.path.name, rows=len(columns), review=review)
    return report


def _write_details(stored: StoredResults, other: OtherRun | None, folder: Path) -> _Gathered:
    """Read all rows, write their details, and gather the rest."""
    gathered = _Gathered()
    waiting: list[str] = []
    written = 0
    for row in stored.rows():
        try:
            details = script_json(details_of(row))  # a number that is not finite, or no JSON, costs this row alone
            number = gathered.columns.add(row)
        except (TypeError, ValueError, AttributeError):
            gathered.damaged += 1
            continue
        gathered.categories.update(((each.category, each.group), None) for each in row.candidates)
        if isinstance(row, ErrorRow):
            gathered.reasons.setdefault(row.code, row.reason)
        there = None if other is None else other.compare(row, number, gathered.columns)
        waiting.append(details if there is None else f'{details[:-1]},"other":{there}}}')
        if len(waiting) == ROWS_PER_DETAILS:
            _write_detail_script(folder, written, waiting)
            written, waiting = written + 1, []
    if waiting:
        _write_detail_script(folder, written, waiting)
    gathered.damaged += stored.damaged
    return gathered


def _write_detail_script(folder: Path, number: int, details: Sequence[str]) -> None:
    call = f"report.addDetails({number * ROWS_PER_DETAILS},[{','.join(details)}]);\n"
    write_text(folder / f"details-{number:04}.js", call)


def _mark_corrected(columns: Columns, path: Path) -> None:
    """Mark the rows of which a person said something."""
    latest = read_corrections(path).latest()
    columns.said = [NO_LABEL] * len(columns)
    for number, (image, box) in enumerate(zip(columns.path, columns.box, strict=True)):
        one = latest.get(box_key(image, None if box is None else box[0]))
        if one is not None and one.verdict == "skip":
            columns.mark(number, Status.SKIPPED)
        elif one is not None:
            columns.mark(number, Status.CORRECTED)
            columns.said[number] = columns.names.number(one.new, one.group)


def _categories(gathered: _Gathered) -> Iterator[Category]:
    for name, group in dict.fromkeys([*gathered.categories, *gathered.columns.names]):
        try:
            yield Category(name, group)
        except ValueError:  # a name that no memory can have
            continue


def _places(columns: Columns, root: Path | None) -> list[bytes | None]:
    """Return where the file of each row would be; None without a folder of images."""
    if root is None:
        return [None] * len(columns)
    folder = os.path.abspath(os.fsencode(root))
    return [os.path.normpath(os.path.join(folder, key_from_display(path))) for path in columns.path]


def _allowed(columns: Columns, root: Path | None, chosen: Sequence[int]) -> list[bytes | None]:
    """Return the file of each chosen row, if it lies in the folder of the images after all links."""
    places: list[bytes | None] = [None] * len(columns)
    if root is not None:
        for number in chosen:
            places[number] = path_under(root, key_from_display(columns.path[number]))
    return places


def _summary(report: Report, stored: StoredResults, gathered: _Gathered, other: OtherRun | None) -> dict[str, object]:
    """Return what the page knows before it loads rows. It names no folder: a report may be sent to others."""
    info, columns = stored.info, gathered.columns
    labels = Counter(columns.label)
    failures = Counter(code for code in columns.code if code is not None)
    return {
        "title": stored.path.name,
        "made": utc_now(),
        "rows": len(columns),
        "rowsPerScript": ROWS_PER_SCRIPT,
        "rowsPerDetails": ROWS_PER_DETAILS,
        "labels": [[name, group, labels[number]] for number, (name, group) in enumerate(columns.names)],
        "codes": [
            [code, failures[number], gathered.reasons.get(code, "")] for number, (code, _) in enumerate(columns.codes)
        ],
        "statuses": [[status.name, int(status)] for status in Status],
        "notes": list(report.sentences()),
        "run": None
        if info is None
        else {
            "state": info.state,
            "model": info.model.get("name"),
            "memory": os.path.basename(str(info.memory.get("path", ""))),
            "categories": info.memory.get("categories"),
            "finished": info.finished or info.started,
        },
        "truth": None if report.truth is None else report.truth.figures(),
        "other": None
        if other is None
        else {
            "name": other.name,
            "onlyThere": other.only_there,
            "differences": differing_settings(info, other.info),
        },
    }


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
