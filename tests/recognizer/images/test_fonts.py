import io

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import newTable
from fontTools.ttLib.tables.sbixGlyph import Glyph
from fontTools.ttLib.tables.sbixStrike import Strike
from PIL import Image

from recognizer.images.fonts import FontBook, Lettering


def make_font(path, characters, colour=None):
    """Write a font whose characters are filled squares; with a colour, squares of it in one size of 20 pixels."""
    pen = TTGlyphPen(None)
    for step, point in enumerate([(50, 0), (50, 700), (650, 700), (650, 0)]):
        (pen.lineTo if step else pen.moveTo)(point)
    pen.closePath()
    glyphs = {".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord(character): "square" for character in characters})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (700, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    if colour:
        square = io.BytesIO()
        Image.new("RGBA", (14, 14), (*colour, 255)).save(square, "PNG")
        strike = Strike(ppem=20)
        strike.glyphs["square"] = Glyph("square", graphicType="png ", imageData=square.getvalue())
        builder.font["sbix"] = newTable("sbix")
        builder.font["sbix"].strikes[20] = strike
    builder.save(path)
    return path


def texts(runs):
    return [text for _, text in runs]


def drawn(text, fonts, size=40):
    canvas = Image.new("RGB", (400, 80))
    Lettering(size, fonts).write(canvas, (5, 5), text, (255, 255, 255))
    return np.asarray(canvas)


def test_plain_latin_needs_one_font_and_no_other_is_read():
    fonts = FontBook([])
    ((face, text),) = fonts.runs("0.44 cup of coffee (73%) …")
    assert (face.path, text) == (None, "0.44 cup of coffee (73%) …")
    assert fonts.runs("") == []


@pytest.mark.parametrize("text", ["Rüppell's fox", "лисица", "Αλεπού", "الثعلب الأحمر", "0.41 שועל"])
def test_scripts_of_dejavu_are_one_run_wherever_the_project_is_installed(text):
    fonts = FontBook([])
    ((face, whole),) = fonts.runs(text)
    assert (face.path.stem, whole) == ("DejaVuSans", text)
    assert fonts.missing_note() is None


def test_other_characters_come_from_installed_fonts_and_the_rest_of_the_text_from_the_first(tmp_path):
    fonts = FontBook([make_font(tmp_path / "Han.ttf", "赤狐 ()")])
    runs = fonts.runs("0.44 赤狐 (fox)")
    assert texts(runs) == ["0.44 ", "赤狐 (", "fox)"]
    assert [face.path and face.path.stem for face, _ in runs] == [None, "Han", None]
    assert fonts.missing == set()


def test_runs_of_text_from_right_to_left_stand_in_that_order(tmp_path):
    fonts = FontBook([make_font(tmp_path / "Han.ttf", "狐")])
    assert texts(fonts.runs("שועל 狐")) == ["狐", "שועל "]


def test_noto_sans_comes_before_other_fonts_and_emoji_before_both(tmp_path):
    names = ["A-Regular", "NotoSerif-Regular", "NotoSans-Regular", "NotoColorEmoji", "NotoSans-Bold"]
    paths = {name: make_font(tmp_path / f"{name}.ttf", "狐") for name in names}

    def first(*present):
        return FontBook([paths[name] for name in present]).runs("狐")[0][0].path.stem

    assert first(*names) == "NotoColorEmoji"
    assert first("A-Regular", "NotoSerif-Regular", "NotoSans-Bold", "NotoSans-Regular") == "NotoSans-Regular"
    assert first("A-Regular", "NotoSans-Bold", "NotoSerif-Regular") == "NotoSerif-Regular"
    assert first("A-Regular", "NotoSans-Bold") == "A-Regular"


def test_what_no_font_has_is_told_once_with_its_characters(tmp_path):
    (tmp_path / "damaged.ttf").write_bytes(b"\0\1\0\0 no font")
    fonts = FontBook([tmp_path / "damaged.ttf", tmp_path / "gone.ttf", make_font(tmp_path / "LastResort.ttf", "狐")])
    assert fonts.missing_note() is None
    for _ in range(2):
        assert texts(fonts.runs("a 狐 b")) == ["a 狐 b"]
    assert fonts.missing_note().startswith("no installed font has 狐 (U+72D0): pictures show a box there")
    fonts.runs("".join(map(chr, range(0x4E00, 0x4E00 + 30))))
    assert "and 11 more" in fonts.missing_note()


def test_joiners_and_variation_selectors_are_not_missing(tmp_path):
    fonts = FontBook([make_font(tmp_path / "Emoji.ttf", "🐈⬛❤")])
    assert texts(fonts.runs("🐈\u200d⬛ ❤\ufe0f")) == ["🐈\u200d⬛", " ", "❤\ufe0f"]
    assert fonts.missing == set()


def test_letters_are_drawn_in_the_ink_between_the_top_of_the_line_and_the_next(tmp_path):
    ink = np.argwhere(drawn("ÅgÉ", FontBook([])).any(-1))
    line = Lettering(40, FontBook([]))
    assert 5 <= ink[:, 0].min() < 5 + line.ascent < ink[:, 0].max() < 5 + line.line_height
    assert abs(ink[:, 1].max() - 5 - line.width("ÅgÉ")) < 4


def test_a_font_of_pictures_keeps_its_colours_in_any_size(tmp_path):
    fonts = FontBook([make_font(tmp_path / "Emoji.ttf", "狐", colour=(200, 30, 60))])
    for size in (15, 60):
        pixels = drawn("狐", fonts, size)
        square = np.argwhere((np.abs(pixels.astype(int) - (200, 30, 60)) < 8).all(-1))
        height, width = np.ptp(square, axis=0) + 1
        assert width == pytest.approx(0.7 * size, abs=3)
        assert height == pytest.approx(0.7 * size, abs=3)
        assert Lettering(size, fonts).width("狐") == pytest.approx(0.7 * size, rel=0.05)
