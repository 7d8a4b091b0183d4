"""Boxes in the command `run`: where they come from, and the files of other tools that their results go to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from recognizer.cli.stored_features import use_features
from recognizer.console import note, progress_bar

if TYPE_CHECKING:
    from memory import Memory
    from recognizer.boxes.plan import BoxPlan
    from recognizer.boxes.settings import BoxSettings
    from recognizer.images import Listing
    from recognizer.recognizer import Recognizer
    from recognizer.results import Row, RunSetup

AUTO = "auto"


def check_box_options(boxes: str | None, output: str, coco: Path | None, megadetector: Path | None) -> None:
    """Refuse options that do not fit together, before anything slow is loaded."""
    from recognizer.errors import RecognizerError

    for option, path in (("--coco", coco), ("--megadetector", megadetector)):
        if path is None:
            continue
        if boxes is None:
            raise RecognizerError(f"{option} writes the results of boxes; give --boxes FILE or --boxes auto")
        if output == "-":
            raise RecognizerError(f"{option} is made from the file of results; give a file as --output instead of -")
        if path.is_dir():
            raise RecognizerError(f"{path} is a folder; name a file for {option}")


def read_box_plan(boxes: str, listing: Listing, settings: BoxSettings) -> BoxPlan:
    """Read a file of boxes, find their images, and say what was left out."""
    from recognizer.boxes.formats import read_boxes
    from recognizer.boxes.formats.megadetector import sure_boxes
    from recognizer.boxes.plan import plan_boxes

    return _noted(plan_boxes(sure_boxes(read_boxes(Path(boxes)), settings.least_confidence), listing), listing)


def find_box_plan(
    listing: Listing,
    setup: RunSetup,
    output: str,
    recognizer: Callable[[], Recognizer],
    features: str | None,
    scratch: str,
    *,
    overwrite: bool,
    retry_errors: bool,
    keep_missing: bool,
) -> BoxPlan:
    """Find the objects of all images, or read those that an earlier run found beside its output.

    Args:
        listing: the images.
        setup: of the run.
        output: of the run; beside a stream nothing is kept.
        recognizer: opens the one that is asked where images are new or have changed.
        features: as given to the command.
        scratch: as for `use_features`.
        overwrite: as given to the command, like the rest.
        retry_errors: likewise.
        keep_missing: likewise.
    """
    from recognizer.boxes.auto import SUFFIX, found_objects, objects_file
    from recognizer.boxes.plan import plan_boxes
    from recognizer.results import ErrorRow, open_results, restamp_file, todo_batches
    from recognizer.results.row import parse_row
    from recognizer.results.tables import read_rows
    from recognizer.run import row_batches

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if output == "-" else None
        path = Path(f"{output}{SUFFIX}") if folder is None else folder / f"results{SUFFIX}"
        sink = stack.enter_context(
            open_results(
                path,
                keys=listing.keys,
                setup=setup,
                output_format="jsonl",
                overwrite=overwrite,
                retry_errors=retry_errors,
                keep_missing=keep_missing,
                current_stamp=lambda number, before: restamp_file(listing[number].path, before),
            )
        )
        if sink.done_rows < len(listing):
            opened = recognizer()
            stack.enter_context(use_features(opened, features, retry_errors=retry_errors, scratch=scratch))
            settings = opened.settings
            batches = row_batches(
                listing,
                todo_batches(sink, settings.run.batch_size),
                lambda pending: found_objects(opened.encoder, pending, settings=settings, features=opened.features),
            )
            with progress_bar(len(listing), "images", "find objects", done=sink.done_rows) as advance:
                for batch in batches:
                    sink.write(batch.rows, timing=batch.timing, images=batch.stamps)
                    advance(len(batch.rows), failed=sum(isinstance(row, ErrorRow) for row in batch.rows))
        sink.finish()
        listed = set(listing.keys)
        rows = (row for row in map(parse_row, read_rows(path)) if row.path in listed)
        return _noted(plan_boxes(objects_file(rows, path), listing), listing)


def _noted(plan: BoxPlan, listing: Listing) -> BoxPlan:
    from memory.wording import counted

    note(f"{counted(plan.boxes, 'box', 'boxes')} in {counted(len(listing), 'image')} ({plan.file.format})")
    for line in plan.notes:
        note(line)
    return plan


def write_box_results(
    rows: Callable[[], Iterator[Row]],
    plan: BoxPlan,
    memory: Memory,
    setup: RunSetup,
    *,
    coco: Path | None,
    megadetector: Path | None,
) -> None:
    """Write the results of boxes for other tools.

    Args:
        rows: reads the rows of the run, in the order of the plan.
        plan: the boxes.
        memory: the categories.
        setup: of the run, with the ids that the file of boxes gives.
        coco: for COCO results; None: none are written.
        megadetector: for MegaDetector's format; likewise.
    """
    from recognizer.boxes import outputs

    for path in filter(None, (coco, megadetector)):
        os.makedirs(path.parent, exist_ok=True)
    if coco is not None:
        ids = outputs.category_ids(setup.category_ids, outputs.named_categories(rows()))
        images = outputs.image_ids(setup.image_ids, (row.path for row in rows()))
        outputs.write_coco(coco, outputs.coco_results(plan.items, rows(), ids, images))
        note(f"COCO results in {coco}")
    if megadetector is not None:
        document = outputs.megadetector_document(plan.items, rows(), plan.file, model=memory.encoder.name)
        outputs.write_megadetector(megadetector, document)
        note(f"MegaDetector's format in {megadetector}")
