"""The command `inspect`: look at training data before an encoder is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memory.wording import counted
from recognizer.cli.options import OUTPUT, SeedOption
from recognizer.console import note, note_missing_fonts, progress_bar, show, table

_WORDS = 20  # most frequent words shown


def inspect(
    data: Annotated[
        list[Path], typer.Argument(help="Manifests (.jsonl), shards (.tar) or folders of shards, as train reads them.")
    ],
    output: Annotated[Path, typer.Option(help="PNG file for the contact sheet.", rich_help_panel=OUTPUT)] = Path(
        "inspect.png"
    ),
    images: Annotated[
        int, typer.Option(min=1, max=100, help="Images on the contact sheet, drawn at random.", rich_help_panel=OUTPUT)
    ] = 12,
    seed: SeedOption = 0,
) -> None:
    """Show training data: a contact sheet of images with boxes and descriptions, and statistics.

    Every sample is read and checked as training checks it; what cannot be used is counted by its reason.

    Example: recognizer inspect train.jsonl --output sheet.png
    """
    import numpy as np

    from memory.durable import make_folder, replacing
    from recognizer.images import ImageLimits
    from training.data.contact_sheet import CELL, contact_sheet, draw_sample
    from training.data.record import Rejects
    from training.data.sources import open_sources, read_sample
    from training.data.statistics import PERCENTILES, measure_data

    limits = ImageLimits()
    source = open_sources(data, limits=limits)
    make_folder(output.resolve().parent)  # before the samples are read, which can take long
    with progress_bar(len(source), "img", "inspect") as advance:
        found = measure_data(source, limits=limits, progress=advance)
    if found.values:
        show(table(["quantity", "values", "mean", *PERCENTILES], found.rows()), "")
    show(f"{counted(len(found.good_rows), 'image')}, {found.without_boxes} of them without boxes")
    for texts, words in (("captions", found.caption_words), ("descriptions", found.description_words)):
        if words:
            frequent = ", ".join(f"{word} {count}" for word, count in words.most_common(_WORDS))
            show(f"most frequent words of {counted(len(words), 'word')} in {texts}: {frequent}")
    show(found.rejects.report())
    if not found.good_rows:
        note("no contact sheet: no sample can be used")
        raise typer.Exit(1)
    count = min(images, len(found.good_rows))
    chosen = sorted(np.random.default_rng(seed).choice(found.good_rows, count, replace=False).tolist())
    cells = []
    for row in chosen:
        key, decoded, record = read_sample(source, row, Rejects(), limits=limits, target_size_hw=(CELL, CELL))
        cells.append((key, draw_sample(decoded.image, decoded.displayed_size_hw, record)))
    with replacing(output) as draft:
        contact_sheet(cells).save(draft, "PNG")
    show(f"contact sheet of {counted(count, 'image')}: {output.resolve()}")
    note_missing_fonts()
