"""Fonts for any script: a text is drawn in the first font that has all of its characters, or else in several.

Pillow's own font knows little more than ASCII, so DejaVu Sans, which comes with matplotlib, and then the fonts of the
machine stand in for it. They are read only when a text needs them.
"""

from __future__ import annotations

import io
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, cast

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont

_PLACEHOLDERS = ("lastresort", "adobeblank")  # fonts that have a box, or nothing, for every character
_JOINER = "\u200d"  # makes one emoji of two
_STYLES = ("bold", "italic", "oblique", "light", "thin", "black", "condensed", "medium", "display", "mono")


@dataclass(frozen=True, slots=True)
class Face:
    """One font.

    Attributes:
        path: of its file; None: Pillow's own.
        characters: code points that it has.
        strike: the only size in pixels that it can be drawn in, of a font made of pictures such as emoji; else None.
    """

    path: Path | None
    characters: frozenset[int]
    strike: int | None = None

    def load(self, size: int) -> Font:
        """Load the font in a size in pixels, or in its only one."""
        if self.path is None:
            return cast(Font, ImageFont.load_default(size))
        return ImageFont.truetype(str(self.path), self.strike or size)


class FontBook:
    """The fonts of this machine, in the order in which they are tried; may be used by several threads.

    Attributes:
        missing: characters of texts so far that no font has.
    """

    def __init__(self, installed: Sequence[Path] | None = None) -> None:
        """Read no font yet.

        Args:
            installed: files of fonts that are tried after those of Pillow and matplotlib; None: the machine's.
        """
        self.missing: set[str] = set()
        self._faces: list[Face] = []
        self._unread = self._sources(installed)
        self._lock = threading.Lock()

    def runs(self, text: str) -> list[tuple[Face, str]]:
        """Split a text into stretches of one font each, in the order in which they stand from left to right."""
        with self._lock:
            for face in self._all():
                if all(_is_in(character, face) for character in text):
                    return [(face, text)] if text else []
            chosen = list(self._by_character(text))
        runs = [(face, "".join(c for _, c in group)) for face, group in groupby(chosen, lambda pair: pair[0])]
        directions = (unicodedata.bidirectional(character) for character in text)
        # Within a run, Pillow's layout engine puts the characters into order; the runs are ours to order.
        return runs[::-1] if next((d for d in directions if d in ("L", "R", "AL")), "L") != "L" else runs

    def missing_note(self) -> str | None:
        """Return a sentence about characters that no font has, None if there are none."""
        if not self.missing:
            return None
        some = sorted(self.missing)[:20]
        shown = ", ".join(f"{character} (U+{ord(character):04X})" for character in some)
        more = f" and {len(self.missing) - len(some)} more" if len(self.missing) > len(some) else ""
        return (
            f"no installed font has {shown}{more}: pictures show a box there; install a font such as Noto "
            "(on Debian: fonts-noto-core, fonts-noto-cjk, fonts-noto-color-emoji)"
        )

    def _by_character(self, text: str) -> Iterator[tuple[Face, str]]:
        face: Face | None = None
        before = ""
        for character in text:
            # A bracket or an accent stays with the text before it, which a change of font would cut in two; so does
            # what is joined to it. The spaces of emoji are as wide as emoji.
            kinds = "PMC" if face is not None and face.strike else "ZPMC"
            stays = unicodedata.category(character)[0] in kinds or before == _JOINER
            before = character
            if face is None or not (stays and _is_in(character, face)):
                covering = next((each for each in self._all() if _is_in(character, each)), None)
                if covering is None:
                    self.missing.add(character)
                face = covering or face or self._faces[0]
            yield face, character

    def _all(self) -> Iterator[Face]:
        """Yield the faces, reading on where those read before did not help."""
        number = 0
        while True:
            if number < len(self._faces):
                yield self._faces[number]
                number += 1
            elif (face := next(self._unread, None)) is not None:
                self._faces.append(face)
            else:
                return

    @staticmethod
    def _sources(installed: Sequence[Path] | None) -> Iterator[Face]:
        from fontTools.ttLib import TTFont  # here, so that workers that only decode need not wait for it

        own = cast(io.BytesIO, cast(Font, ImageFont.load_default(20)).path)
        yield Face(None, _characters(TTFont(io.BytesIO(own.getvalue()))))
        matplotlib = find_spec("matplotlib")
        if matplotlib is not None and matplotlib.origin is not None:
            yield from _read_face(Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")
        if installed is None:
            from matplotlib.font_manager import findSystemFonts  # 0.7 s, which Latin names need not wait for

            installed = [Path(path) for path in findSystemFonts()]
        for path in sorted(installed, key=_preference):
            if not any(word in path.stem.lower() for word in _PLACEHOLDERS):
                yield from _read_face(path)


FONTS = FontBook()
"""The fonts of this process."""


class Lettering:
    """Texts of one size.

    Attributes:
        size: in pixels.
        ascent: pixels from the top of a line to its baseline.
        line_height: pixels from the top of a line to that of the next.
    """

    def __init__(self, size: int, fonts: FontBook = FONTS) -> None:
        """Choose the size in pixels and the fonts."""
        self.size = size
        self.ascent = round(0.95 * size)  # room for the accents of capitals
        self.line_height = round(1.25 * size)
        self._fonts = fonts
        self._loaded: dict[Face, Font] = {}

    def width(self, text: str) -> float:
        """Return the width of a line in pixels."""
        return sum(self._advance(face, run) for face, run in self._fonts.runs(text))

    def write(self, canvas: Image.Image, xy: tuple[float, float], text: str, ink: Colour) -> None:
        """Write a line on a picture in mode RGB, with its top left corner at `xy`."""
        x, baseline = xy[0], xy[1] + self.ascent
        for face, run in self._fonts.runs(text):
            if face.strike is None:
                draw = ImageDraw.Draw(canvas)
                draw.text((x, baseline), run, font=self._font(face), fill=ink, anchor="ls", embedded_color=True)
            else:
                self._paste(canvas, (x, baseline), face, run)
            x += self._advance(face, run)

    def _paste(self, canvas: Image.Image, xy: tuple[float, float], face: Face, run: str) -> None:
        """Draw a run of a font that has one size, and bring it to ours."""
        font, scale = self._font(face), self._scale(face)
        width, height = round(font.getlength(run)) + 1, 2 * (face.strike or 1)
        drawn = Image.new("RGBA", (width, height))
        ImageDraw.Draw(drawn).text((0, 0.75 * height), run, font=font, anchor="ls", embedded_color=True)
        small = drawn.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BOX)
        canvas.paste(small, (round(xy[0]), round(xy[1] - 0.75 * small.height)), small)

    def _advance(self, face: Face, run: str) -> float:
        return float(self._font(face).getlength(run)) * self._scale(face)

    def _scale(self, face: Face) -> float:
        return self.size / face.strike if face.strike else 1.0

    def _font(self, face: Face) -> Font:
        if face not in self._loaded:
            self._loaded[face] = face.load(self.size)
        return self._loaded[face]


def _is_in(character: str, face: Face) -> bool:
    # Joiners and variation selectors are invisible; a font without them shows the rest as it can.
    invisible = unicodedata.category(character) == "Cf" or "\ufe00" <= character <= "\ufe0f"
    return invisible or ord(character) in face.characters


def _read_face(path: Path) -> Iterator[Face]:
    """Yield the first font of a file, unless it cannot be read or drawn."""
    from fontTools.ttLib import TTFont

    try:
        with path.open("rb") as stream, TTFont(stream, fontNumber=0, lazy=True) as font:
            if "COLR" in font and font["COLR"].version > 0:
                return  # FreeType draws nothing for such colour glyphs
            strike = None
            if "CBLC" in font:
                strike = font["CBLC"].strikes[0].bitmapSizeTable.ppemY
            elif "sbix" in font:
                strike = max(font["sbix"].strikes)
            face = Face(path, _characters(font), strike)
        face.load(20)
    except Exception:  # noqa: BLE001  on damaged fonts fontTools raises almost any exception type
        return
    yield face


def _characters(font: TTFont) -> frozenset[int]:
    return frozenset(font.getBestCmap() or ())


def _preference(path: Path) -> tuple[bool, bool, bool, bool, str]:
    """Order fonts: upright ones of normal weight first, among them emoji, then Noto, of that the sans-serif."""
    name = path.stem.lower().replace(" ", "").replace("-", "")
    return (
        any(word in name for word in _STYLES),
        "emoji" not in name,  # other fonts have some emoji, as outlines, and cannot join them
        not name.startswith("noto"),
        not name.startswith("notosans"),
        str(path),
    )
