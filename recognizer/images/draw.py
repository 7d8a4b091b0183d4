"""Draw evidence on a picture: boxes, and for each a caption on a filled plate.

`draw_evidence` draws; `lay_out_caption` breaks a caption into lines and `place_plate` finds room for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of the canvas."""

PALETTE_RGB = (  # distinct for colour-blind readers too (after Okabe and Ito 2008), light colours first
    (255, 196, 37),
    (64, 176, 255),
    (0, 190, 140),
    (255, 120, 60),
    (226, 128, 190),
    (245, 240, 90),
    (120, 110, 255),
    (235, 235, 235),
)
_SMALLEST_CANVAS = 800  # longer side in pixels; below it captions have no room
_LARGEST_CANVAS = 2048
_MAX_LINES = 2
_LONGEST_TEXT = 400  # characters; more never fits into two lines, and measuring them is slow


def draw_evidence(
    image: Image.Image,
    boxes_xyxy: Sequence[Sequence[float] | None],
    captions: Sequence[str],
    *,
    title: str = "",
    displayed_size_hw: tuple[int, int] | None = None,
    font_path: str | None = None,
) -> Image.Image:
    """Draw boxes and captions on a copy of a picture.

    A picture whose longer side is below 800 or above 2048 pixels is resized to that bound, so that captions can be
    read. Captions are wrapped to two lines and shortened with an ellipsis. They stay inside the picture and off each
    other where there is room.

    Args:
        image: the picture, any mode; may be a reduced copy of the displayed image.
        boxes_xyxy: for each piece of evidence its box (x_min, y_min, x_max, y_max) in pixels of the displayed image,
            which is clipped to the image; None for evidence without a box, whose caption then stands at the foot.
        captions: one text per box; line breaks and control characters become spaces; an empty one draws no plate.
        title: a text across the top, e.g. the label and its confidence.
        displayed_size_hw: height and width in pixels of the displayed image; None: those of `image`.
        font_path: a TrueType font that covers the scripts of the captions; None: Pillow's own font (Latin).

    Returns:
        A new RGB picture.

    Raises:
        ValueError: the numbers of boxes and captions differ, or a box does not have four numbers.
    """
    if len(boxes_xyxy) != len(captions):
        raise ValueError(f"{len(boxes_xyxy)} boxes and {len(captions)} captions; give one caption per box")
    frame_h, frame_w = displayed_size_hw or (image.height, image.width)
    canvas = _resized_copy(image)
    boxes = [
        None if box is None else _scale_box(box, canvas.width / frame_w, canvas.height / frame_h, canvas.size)
        for box in boxes_xyxy
    ]
    longer_side = max(canvas.size)
    # Sizes grow with the canvas, so that a picture looks the same when it is scaled to a screen.
    font = _font(max(15, round(longer_side / 42)), font_path)
    line_width = max(3, round(longer_side / 220))
    draw = ImageDraw.Draw(canvas)
    colours = [PALETTE_RGB[i % len(PALETTE_RGB)] for i in range(len(boxes))]
    for box, colour in reversed(list(zip(boxes, colours, strict=True))):  # the first, best piece lies on top
        if box is not None:
            _draw_box(draw, box, colour, line_width)
    taken: list[Box] = []
    if title:
        heading = lay_out_caption(draw, title, _font(max(18, round(longer_side / 32)), font_path), canvas.width)
        taken.append(_draw_plate(draw, heading, (0, 0), (24, 24, 28), canvas.size))
    for box, text, colour in zip(boxes, captions, colours, strict=True):
        if text.strip():
            widest = canvas.width if box is None else max(round(box[2] - box[0]), round(0.45 * canvas.width))
            caption = lay_out_caption(draw, text, font, min(widest, canvas.width))
            corner_xy = place_plate(caption.size_wh, box, taken, canvas.size)
            taken.append(_draw_plate(draw, caption, corner_xy, colour, canvas.size))
    return canvas


def _resized_copy(image: Image.Image) -> Image.Image:
    longer_side = max(image.size)
    target = min(max(longer_side, _SMALLEST_CANVAS), _LARGEST_CANVAS)
    copy = image.convert("RGB") if image.mode != "RGB" else image.copy()
    if target == longer_side:
        return copy
    scale = target / longer_side
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return copy.resize(size, Image.Resampling.LANCZOS)


def _scale_box(box: Sequence[float], scale_x: float, scale_y: float, size_wh: tuple[int, int]) -> Box:
    if len(box) != 4:
        raise ValueError(f"a box has {len(box)} numbers; give x_min, y_min, x_max, y_max")
    width, height = size_wh
    xs = sorted(min(max(x * scale_x, 0.0), width - 1.0) for x in (box[0], box[2]))
    ys = sorted(min(max(y * scale_y, 0.0), height - 1.0) for y in (box[1], box[3]))
    return (xs[0], ys[0], xs[1], ys[1])


def _draw_box(draw: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int], line_width: int) -> None:
    draw.rectangle(box, outline=(0, 0, 0), width=line_width + 2)  # a dark rim shows the line on any background
    inner = (box[0] + 1, box[1] + 1, max(box[2] - 1, box[0] + 1), max(box[3] - 1, box[1] + 1))
    draw.rectangle(inner, outline=colour, width=line_width)


def _draw_plate(
    draw: ImageDraw.ImageDraw,
    caption: Caption,
    corner_xy: tuple[float, float],
    colour: tuple[int, int, int],
    size_wh: tuple[int, int],
) -> Box:
    x, y = corner_xy
    width, height = caption.size_wh
    plate = (x, y, min(x + width, size_wh[0]) - 1, min(y + height, size_wh[1]) - 1)
    draw.rounded_rectangle(plate, radius=caption.padding, fill=colour)
    red, green, blue = colour
    # Black text where the luma of the plate (ITU-R BT.601) is above 110, else white.
    ink = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else (255, 255, 255)
    draw.multiline_text(
        (x + caption.padding, y + caption.padding - caption.ascent_gap),
        caption.text,
        font=caption.font,
        fill=ink,
        spacing=caption.spacing,
    )
    return plate


def _font(size: int, font_path: str | None) -> Font:
    return ImageFont.truetype(font_path, size) if font_path else ImageFont.load_default(size)


@dataclass(frozen=True, slots=True)
class Caption:
    """A text broken into lines.

    Attributes:
        text: the lines, joined by newlines.
        font: the font it was measured with.
        size_wh: width and height of its plate in pixels.
        padding: pixels between the text and the edge of the plate.
        spacing: pixels between two lines.
        ascent_gap: pixels between the origin of the text and its highest ink.
    """

    text: str
    font: Font
    size_wh: tuple[int, int]
    padding: int
    spacing: int
    ascent_gap: int


def lay_out_caption(draw: ImageDraw.ImageDraw, text: str, font: Font, max_width: int) -> Caption:
    """Break a text into at most two lines that fit a width, and end it in an ellipsis if it is too long.

    Args:
        draw: measures the text.
        text: any text.
        font: the font to draw it in.
        max_width: the greatest width of the plate, in pixels.

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


def _elide(draw: ImageDraw.ImageDraw, line: str, font: Font, room: int) -> str:
    """Shorten a line to the longest beginning that fits with an ellipsis, by bisection."""
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
    size_wh: tuple[int, int], box: Box | None, taken: Sequence[Box], canvas_wh: tuple[int, int]
) -> tuple[float, float]:
    """Choose the place at an edge of its box, inside the picture, where a plate covers other plates least.

    Args:
        size_wh: width and height of the plate in pixels.
        box: the box that the caption belongs to, in pixels of the canvas; None: the foot of the picture.
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
    candidates = [  # above the box, inside at its top, inside at its bottom, below, in the middle; left, then right
        (x, y)
        for y in (y_min - height, y_min, y_max - height, y_max, (y_min + y_max - height) / 2)
        for x in (x_min, x_max - width)
    ]
    inside = [(min(max(x, 0.0), float(rightmost_x)), min(max(y, 0.0), float(lowest_y))) for x, y in candidates]
    return min(inside, key=lambda corner: _covered(corner, size_wh, taken))


def _covered(corner_xy: tuple[float, float], size_wh: tuple[int, int], taken: Sequence[Box]) -> float:
    """Count the pixels of the plates in `taken` that a plate at this corner would cover."""
    x, y = corner_xy
    return sum(
        max(0.0, min(x + size_wh[0], plate[2]) - max(x, plate[0]))
        * max(0.0, min(y + size_wh[1], plate[3]) - max(y, plate[1]))
        for plate in taken
    )
