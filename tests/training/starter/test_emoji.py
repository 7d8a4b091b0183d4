import json

import pytest
from PIL import Image

from training.starter.emoji import emoji


def emoji_set(root, names):
    base = root / "emoji-noto"
    base.mkdir(parents=True)
    body = '<path d="M0 0H16V32H0z" fill="#f00"/>'
    icons = {name: {"body": body} for names_ in names.values() for name in names_}
    (base / "icons.json").write_text(json.dumps({"icons": icons, "width": 32, "height": 32}))
    (base / "metadata.json").write_text(json.dumps({"categories": names}))


def test_emoji_are_rendered_once_and_flags_people_and_tones_left_out(tmp_path):
    pytest.importorskip("resvg_py", reason="resvg-py renders emoji")
    left_out = [
        "waving-hand-light-skin-tone",
        "man-cook",
        "person",
        "one-oclock",
        "two-thirty",
        "elf-light",
        "elf-medium-dark",
    ]
    groups = {
        "Animals & Nature": ["tiger", "Red-Fox"],
        "Travel & Places": ["police-car-light", *left_out],
        "Flags": ["flag-x"],
        "Symbols": ["keycap-1"],
    }
    emoji_set(tmp_path, groups)
    pictures = emoji(tmp_path, "noto", side=64)
    assert [picture.name for picture in pictures] == ["red fox", "police car light", "tiger"]
    image = Image.open(pictures[0].path)
    assert image.size == (64, 64)
    assert image.getpixel((10, 30)) == (255, 0, 0, 255)
    assert image.getpixel((50, 30))[3] == 0
    stamp = pictures[0].path.stat().st_mtime_ns
    assert emoji(tmp_path, "noto", side=64) == pictures
    assert pictures[0].path.stat().st_mtime_ns == stamp
