"""Caption plates: how a text is broken into lines and where its plate goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ImageDraw, ImageFont

PlateBox = tuple[float, float, float, float]
_MAX_LINES = 2
_LONGEST_TEXT = 400


@dataclass(frozen=True, slots=True)
class Caption:
    """A text broken into lines.

    Attributes:
        text: the lines, joined by newlines.
        font: the font it was measured with.
        size_wh: width and height of its plate in pixels.
        padding: pixels between text and edge of the plate.
        spacing: pixels between two lines.
        ascent_gap: pixels between the top of the text's frame and its ink.
    """

    text: str
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    size_wh: tuple[int, int]
    padding: int
    spacing: int
    ascent_gap: int


def lay_out_caption(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, max_width: int
) -> Caption:
    """Break a text into at most two lines that fit a width; what does not fit is elided.

    Args:
        draw: measures the text.
        text: any text.
        font: the font to draw it in.
        max_width: width of the plate in pixels, at most.

    Returns:
        The caption.
    """
    line_height = draw.textbbox((0, 0), "Ág", font=font)
    padding = max(3, round((line_height[3] - line_height[1]) / 3.5))
    room = max(1, max_width - 2 * padding)
    shown = "".join(c if c.isprintable() else " " for c in text[:_LONGEST_TEXT])
    words = shown.split()
    lines: list[str] = []
    while words and len(lines) < _MAX_LINES:
        is_last = len(lines) == _MAX_LINES - 1
        count = 1
        while count < len(words) and draw.textlength(" ".join(words[: count + 1]), font=font) <= room:
            count += 1
        rest_fits = count == len(words)
        line = " ".join(words) if is_last and not rest_fits else " ".join(words[:count])
        lines.append(_elide(draw, line, font, room))
        words = words[count:]
    spacing = max(2, padding // 2)
    block = draw.multiline_textbbox((0, 0), "\n".join(lines), font=font, spacing=spacing)
    size = (round(block[2]) + 2 * padding, round(block[3] - block[1]) + 2 * padding)
    return Caption("\n".join(lines), font, size, padding, spacing, round(block[1]))


def _elide(draw: ImageDraw.ImageDraw, line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    if draw.textlength(line, font=font) <= room:
        return line
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        if draw.textlength(line[:middle].rstrip() + "…", font=font) <= room:
            low = middle
        else:
            high = middle - 1
    return line[:low].rstrip() + "…"


def place_plate(
    size_wh: tuple[int, int], box: PlateBox | None, taken: Sequence[PlateBox], canvas_wh: tuple[int, int]
) -> tuple[float, float]:
    """Choose where a plate goes: at an edge of its box, inside the picture, where it covers other plates least.

    Args:
        size_wh: width and height of the plate in pixels.
        box: the box it belongs to, in pixels of the canvas; None puts it at the foot of the picture.
        taken: plates already placed.
        canvas_wh: width and height of the picture in pixels.

    Returns:
        The plate's top left corner (x, y).
    """
    width, height = size_wh
    lowest_y, rightmost_x = max(0, canvas_wh[1] - height), max(0, canvas_wh[0] - width)
    if box is None:
        rows = [(0.0, float(y)) for y in range(lowest_y, -1, -max(1, height // 2))]
        return min(rows, key=lambda corner: _covered(corner, size_wh, taken))
    x_min, y_min, x_max, y_max = box
    wishes = [
        (x, y)
        for y in (y_min - height, y_min, y_max - height, y_max, (y_min + y_max - height) / 2)
        for x in (x_min, x_max - width)
    ]
    inside = [(min(max(x, 0.0), float(rightmost_x)), min(max(y, 0.0), float(lowest_y))) for x, y in wishes]
    return min(inside, key=lambda corner: _covered(corner, size_wh, taken))


def _covered(corner_xy: tuple[float, float], size_wh: tuple[int, int], taken: Sequence[PlateBox]) -> float:
    """Pixels of the plates in `taken` that a plate at this corner would cover."""
    x, y = corner_xy
    return sum(
        max(0.0, min(x + size_wh[0], plate[2]) - max(x, plate[0]))
        * max(0.0, min(y + size_wh[1], plate[3]) - max(y, plate[1]))
        for plate in taken
    )
