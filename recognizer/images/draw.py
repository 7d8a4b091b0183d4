"""Draw evidence on a picture: boxes, and for each a caption of one or several lines on a filled plate.

`draw_evidence` draws; `lay_out` breaks texts into lines and `place_plate` finds room for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from recognizer.images.fonts import FONTS, Colour, FontBook, Lettering

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
GROUND_RGB = (24, 24, 28)
_SMALLEST_PICTURE = 800  # longer side in pixels; below it captions have no room
_LARGEST_PICTURE = 2048
_WIDEST_CANVAS = 2.5  # longer side to shorter one; a picture more extreme than this gets a ground for its captions
_LONGEST_TEXT = 400  # characters; more never fits into two lines, and measuring them is slow


def draw_evidence(
    image: Image.Image,
    boxes_xyxy: Sequence[Sequence[float] | None],
    captions: Sequence[Sequence[str]],
    *,
    title: str = "",
    displayed_size_hw: tuple[int, int] | None = None,
    fonts: FontBook = FONTS,
) -> Image.Image:
    """Draw boxes and captions on a copy of a picture.

    A picture whose longer side is below 800 or above 2048 pixels is resized to that bound, so that captions can be
    read. The title stands above the picture. A very long or very tall picture is put on a dark ground, where its
    captions find room. What is too long for its line ends in an ellipsis; captions stay off each other where there is
    room.

    Args:
        image: the picture, any mode; may be a reduced copy of the displayed image.
        boxes_xyxy: for each piece of evidence its box (x_min, y_min, x_max, y_max) in pixels of the displayed image,
            which is clipped to the image; None for evidence without a box, whose caption then stands at the foot.
        captions: the texts of each box, one below the other; without any, there is no plate. Line breaks and control
            characters within a text become spaces.
        title: a text above the picture, e.g. the label and its confidence.
        displayed_size_hw: height and width in pixels of the displayed image; None: those of `image`.
        fonts: in which the texts are written.

    Returns:
        A new RGB picture.

    Raises:
        ValueError: the numbers of boxes and captions differ, or a box does not have four numbers.
    """
    if len(boxes_xyxy) != len(captions):
        raise ValueError(f"{len(boxes_xyxy)} boxes and {len(captions)} captions; give one caption per box")
    frame_h, frame_w = displayed_size_hw or (image.height, image.width)
    picture = _resized_copy(image)
    longer_side = max(picture.size)
    shortest = round(longer_side / _WIDEST_CANVAS)
    width, height = max(picture.width, shortest), max(picture.height, shortest)
    # Sizes grow with the picture, so that it looks the same when it is scaled to a screen; a line has room for about 50
    # letters.
    heading = (
        lay_out([title], Lettering(max(18, round(min(longer_side / 32, width / 23))), fonts), width) if title else None
    )
    top = heading.size_wh[1] if heading else 0
    canvas = Image.new("RGB", (width, top + height), GROUND_RGB)
    offset_xy = ((width - picture.width) // 2, top + (height - picture.height) // 2)
    canvas.paste(picture, offset_xy)
    if heading:
        _write(canvas, heading, (0, 0), (255, 255, 255))
    boxes = [
        None if box is None else _to_canvas(box, (frame_w, frame_h), picture.size, offset_xy) for box in boxes_xyxy
    ]
    colours = [PALETTE_RGB[i % len(PALETTE_RGB)] for i in range(len(boxes))]
    line_width = max(3, round(longer_side / 220))
    draw = ImageDraw.Draw(canvas)
    for box, colour in reversed(list(zip(boxes, colours, strict=True))):  # the first, best piece lies on top
        if box is not None:
            _draw_box(draw, box, colour, line_width)
    lettering = Lettering(max(15, round(min(longer_side / 42, width / 30))), fonts)
    room = (0.0, float(top), float(width), float(top + height))
    shown = (*offset_xy, offset_xy[0] + picture.width, offset_xy[1] + picture.height)
    taken: list[Box] = []
    for box, texts, colour in zip(boxes, captions, colours, strict=True):
        if any(text.strip() for text in texts):
            widest = width if box is None else max(round(box[2] - box[0]), round(0.45 * width))
            caption = lay_out(texts, lettering, min(widest, width))
            corner_xy = place_plate(caption.size_wh, box, taken, room, shown)
            taken.append(_draw_plate(canvas, caption, corner_xy, colour))
    return canvas


def _resized_copy(image: Image.Image) -> Image.Image:
    longer_side = max(image.size)
    target = min(max(longer_side, _SMALLEST_PICTURE), _LARGEST_PICTURE)
    copy = image.convert("RGB") if image.mode != "RGB" else image.copy()
    if target == longer_side:
        return copy
    scale = target / longer_side
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return copy.resize(size, Image.Resampling.LANCZOS)


def _to_canvas(
    box: Sequence[float], frame_wh: tuple[int, int], size_wh: tuple[int, int], offset_xy: tuple[int, int]
) -> Box:
    """Bring a box from the displayed frame to where its picture stands on the canvas, clipped to the picture."""
    if len(box) != 4:
        raise ValueError(f"a box has {len(box)} numbers; give x_min, y_min, x_max, y_max")
    xs, ys = (
        sorted(min(max(edge * size / frame, 0.0), size - 1.0) + offset for edge in edges)
        for edges, size, frame, offset in zip(
            ((box[0], box[2]), (box[1], box[3])), size_wh, frame_wh, offset_xy, strict=True
        )
    )
    return (xs[0], ys[0], xs[1], ys[1])


def _draw_box(draw: ImageDraw.ImageDraw, box: Box, colour: Colour, line_width: int) -> None:
    draw.rectangle(box, outline=(0, 0, 0), width=line_width + 2)  # a dark rim shows the line on any background
    inner = (box[0] + 1, box[1] + 1, max(box[2] - 1, box[0] + 1), max(box[3] - 1, box[1] + 1))
    draw.rectangle(inner, outline=colour, width=line_width)


def _draw_plate(canvas: Image.Image, caption: Caption, corner_xy: tuple[float, float], colour: Colour) -> Box:
    x, y = corner_xy
    width, height = caption.size_wh
    plate = (x, y, min(x + width, canvas.width) - 1, min(y + height, canvas.height) - 1)
    ImageDraw.Draw(canvas).rounded_rectangle(plate, radius=caption.padding, fill=colour)
    red, green, blue = colour
    # Black text where the luma of the plate (ITU-R BT.601) is above 110, else white.
    _write(canvas, caption, corner_xy, (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else (255,) * 3)
    return plate


def _write(canvas: Image.Image, caption: Caption, corner_xy: tuple[float, float], ink: Colour) -> None:
    x, y = corner_xy[0] + caption.padding, corner_xy[1] + caption.padding
    for number, line in enumerate(caption.lines):
        caption.lettering.write(canvas, (x, y + number * caption.lettering.line_height), line, ink)


@dataclass(frozen=True, slots=True)
class Caption:
    """Texts broken into lines.

    Attributes:
        lines: from top to bottom.
        lettering: that they were measured with.
        size_wh: width and height of their plate in pixels.
        padding: pixels between the lines and the edge of the plate.
    """

    lines: Sequence[str]
    lettering: Lettering
    size_wh: tuple[int, int]
    padding: int


def lay_out(texts: Sequence[str], lettering: Lettering, max_width: int) -> Caption:
    """Give each of several texts a line, a single one up to two, and end what does not fit in an ellipsis.

    Args:
        texts: any texts.
        lettering: measures them.
        max_width: the greatest width of the plate, in pixels.

    Returns:
        The caption.
    """
    padding = max(3, round(lettering.size / 3.5))
    room = max(1, max_width - 2 * padding)
    lines: list[str] = []
    for text in texts:
        shown = "".join(c if c.isprintable() or c in "\u200c\u200d" else " " for c in text[:_LONGEST_TEXT])
        line, rest = _first_line(" ".join(shown.split()), lettering, room) if len(texts) == 1 else ("", shown)
        lines += [line] if line else []
        lines += [_elided(" ".join(rest.split()), lettering, room)] if rest else []
    width = max((lettering.width(line) for line in lines), default=0.0)
    height = len(lines) * lettering.line_height
    return Caption(lines, lettering, (round(width) + 2 * padding, height + 2 * padding), padding)


def _first_line(text: str, lettering: Lettering, room: int) -> tuple[str, str]:
    """Split a text where its first line is full, between words if one fits, and return the line and the rest."""
    if lettering.width(text) <= room:
        return text, ""
    fitting = text[: _longest_fitting(text, lettering, room)]
    line = fitting.rpartition(" ")[0]
    # The line ends with a word already, or its last word is so long that it is better cut.
    if text[len(fitting) :].startswith(" ") or len(line) < len(fitting) / 2:
        line = fitting
    return line, text[len(line) :].lstrip()


def _elided(line: str, lettering: Lettering, room: int) -> str:
    """Shorten a line to the longest beginning that fits with an ellipsis."""
    if lettering.width(line) <= room:
        return line
    return line[: _longest_fitting(line, lettering, room, "…")].rstrip() + "…"


def _longest_fitting(line: str, lettering: Lettering, room: int, end: str = "") -> int:
    """Return by bisection how many characters of a line fit with an end."""
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        if lettering.width(line[:middle].rstrip() + end) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def place_plate(
    size_wh: tuple[int, int], box: Box | None, taken: Sequence[Box], room: Box, picture: Box
) -> tuple[float, float]:
    """Choose the place at an edge of its box where a plate covers other plates least, and then the picture.

    Args:
        size_wh: width and height of the plate in pixels.
        box: the box that the caption belongs to, in pixels of the canvas; None: the foot of the room.
        taken: plates already placed.
        room: the part of the canvas that the plate stays in.
        picture: the part of the canvas that the picture takes.

    Returns:
        The plate's top left corner (x, y).
    """
    width, height = size_wh
    left, top = room[:2]
    right, bottom = max(left, room[2] - width), max(top, room[3] - height)
    if box is None:
        rows = [(left, float(y)) for y in range(round(bottom), round(top) - 1, -max(1, height // 2))]
        return min(rows, key=lambda corner: _covered(corner, size_wh, taken))
    x_min, y_min, x_max, y_max = box
    candidates = [  # above the box, inside at its top, inside at its bottom, below, in the middle; left, then right
        (x, y)
        for y in (y_min - height, y_min, y_max - height, y_max, (y_min + y_max - height) / 2)
        for x in (x_min, x_max - width)
    ] + [(x_max, y_min), (x_min - width, y_min)]  # beside the box
    inside = [(min(max(x, left), right), min(max(y, top), bottom)) for x, y in candidates]
    return min(inside, key=lambda xy: (_covered(xy, size_wh, taken), _covered(xy, size_wh, [picture])))


def _covered(corner_xy: tuple[float, float], size_wh: tuple[int, int], areas: Sequence[Box]) -> int:
    """Count the pixels of some areas that a plate at this corner would cover."""
    x, y = corner_xy
    covered = sum(
        max(0.0, min(x + size_wh[0], area[2]) - max(x, area[0]))
        * max(0.0, min(y + size_wh[1], area[3]) - max(y, area[1]))
        for area in areas
    )
    return round(covered)  # what differs by rounding errors alone is equal, and the first place wins
