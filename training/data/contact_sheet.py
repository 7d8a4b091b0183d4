"""A contact sheet: training images side by side, each with its caption, its boxes and their descriptions."""

from __future__ import annotations

import math
from collections.abc import Iterable

from PIL import Image, ImageOps

from recognizer.images.draw import GROUND_RGB, draw_evidence, lay_out
from recognizer.images.fonts import FONTS, FontBook, Lettering
from training.data.record import Record, Region

CELL = 560
"""Longer side of an image on the sheet in pixels: a caption's letters are then some 13 pixels high."""
_GAP = 8
_MOST_BOXES = 8  # as many as training uses by default; more hide the image
_MOST_DESCRIPTIONS = 3  # of a box
_KEY_LETTERS = 60


def draw_sample(
    image: Image.Image, size_hw: tuple[int, int], record: Record, *, fonts: FontBook = FONTS
) -> Image.Image:
    """Draw the first caption of a sample above its image, and the boxes of the highest scores with descriptions.

    Args:
        image: as decoded, perhaps at a reduced size.
        size_hw: height and width in pixels of the displayed image, the frame of the boxes.
        record: the texts and boxes.
        fonts: in which the texts are written.

    Returns:
        A picture of at most `CELL` x `CELL` pixels.
    """
    regions = sorted(record.regions, key=lambda region: -region.score)[:_MOST_BOXES]
    drawn = draw_evidence(
        image,
        [region.box_xyxy for region in regions],
        [_lines(region) for region in regions],
        title=record.captions[0],
        displayed_size_hw=size_hw,
        fonts=fonts,
    )
    return ImageOps.contain(drawn, (CELL, CELL))


def contact_sheet(cells: Iterable[tuple[str, Image.Image]], *, fonts: FontBook = FONTS) -> Image.Image:
    """Lay out pictures in rows on one sheet, with the key of each below it.

    Args:
        cells: key and picture of each sample; a picture is at most `CELL` x `CELL` pixels.
        fonts: in which the keys are written.

    Returns:
        A sheet of mode RGB, a little wider than high.
    """
    found = list(cells)
    lettering = Lettering(16, fonts)
    columns = max(1, math.ceil(math.sqrt(len(found) * 4 / 3)))
    rows = [found[start : start + columns] for start in range(0, len(found), columns)]
    strip = lettering.line_height + 2 * _GAP
    heights = [max(picture.height for _, picture in row) + strip for row in rows]
    sheet = Image.new("RGB", (_GAP + min(columns, max(1, len(found))) * (CELL + _GAP), _GAP + sum(heights)), GROUND_RGB)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (key, picture) in enumerate(row):
            left = _GAP + column * (CELL + _GAP)
            sheet.paste(picture, (left + (CELL - picture.width) // 2, top))
            shown = key if len(key) <= _KEY_LETTERS else "…" + key[1 - _KEY_LETTERS :]
            (line, *_) = lay_out([shown], lettering, CELL).lines or [""]
            lettering.write(sheet, (left, top + picture.height + _GAP // 2), line, (200, 200, 200))
        top += height
    return sheet


def _lines(region: Region) -> list[str]:
    more = len(region.descriptions) - _MOST_DESCRIPTIONS
    texts = list(region.descriptions[:_MOST_DESCRIPTIONS])
    score = "" if region.score == 1 else f"{region.score:.2f}  "
    return [score + texts[0], *texts[1:], *([f"and {more} more"] if more > 0 else [])]
