"""Emoji in four styles, rendered once from SVG."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from memory.durable import replacing
from training.starter.pictures import Picture, require_some

Style = Literal["noto", "twemoji", "openmoji", "fluent-emoji-flat"]
STYLES: tuple[Style, ...] = ("noto", "twemoji", "openmoji", "fluent-emoji-flat")

_LEFT_OUT_GROUPS = ("Flags", "Symbols", "Extras", "Component")
_LEFT_OUT_NAMES = re.compile(
    r"skin-tone|o-?clock|-thirty$|keycap"
    r"|(?:^|-)(?:man|woman|men|women|person|people|boy|girl|family|couple)(?:-|$)|^kiss(?:-(?:man|woman)|$)"
)
_TONE = re.compile(r"-(?:medium|(?:medium-)?(?:light|dark))$")


def emoji(root: Path, style: Style, *, side: int = 224) -> list[Picture]:
    """List the emoji of a style, about 1,100 names, and render those that are not rendered yet.

    Flags, symbols, skin tones, clock faces, keycaps and variants of people are left out. Names are lower case with
    spaces.

    Args:
        root: the folder that `fetch_pictures.sh` fills; the renderings go to `emoji-STYLE/png-SIDE` in it.
        style: of the emoji.
        side: of the rendered square, in pixels.

    Raises:
        FileNotFoundError: the package is missing below `root`; the message says how to fetch it.
        ModuleNotFoundError: an emoji must be rendered and `resvg-py` is not installed.
        memory.errors.WriteFailed: a rendering cannot be written.
    """
    base = root / f"emoji-{style}"
    folder = base / f"png-{side}"
    names = list(_names(base)) if (base / "icons.json").exists() else []
    pictures = [Picture(folder / f"{name}.png", name.lower().replace("-", " ")) for name in require_some(names, base)]
    missing = [picture.path for picture in pictures if not picture.path.exists()]
    if missing:
        folder.mkdir(exist_ok=True)
        _render(json.loads((base / "icons.json").read_text(encoding="utf-8")), missing, side)
    return pictures


def _names(base: Path) -> Iterator[str]:
    icons = json.loads((base / "icons.json").read_text(encoding="utf-8"))["icons"]
    groups = json.loads((base / "metadata.json").read_text(encoding="utf-8"))["categories"]
    usable = {name for group, names in groups.items() if not group.startswith(_LEFT_OUT_GROUPS) for name in names}
    for name in sorted(usable & icons.keys()):
        toneless = f"{_TONE.sub('', name)}-medium-dark"  # exists if `-light` is a skin tone, not a lamp
        if not (
            icons[name].get("hidden") or _LEFT_OUT_NAMES.search(name) or (_TONE.search(name) and toneless in icons)
        ):
            yield name


def _render(icon_set: Mapping[str, Any], paths: list[Path], side: int) -> None:
    from resvg_py import svg_to_bytes

    for path in paths:
        svg = _svg(icon_set, path.stem)
        with replacing(path) as draft:
            draft.write_bytes(svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True))


def _svg(icon_set: Mapping[str, Any], name: str) -> str:
    """Wrap the body of an icon in an SVG document; missing sizes of the icon default to those of the set."""
    icon = {"left": 0, "top": 0, "width": 16, "height": 16}
    icon.update({key: icon_set[key] for key in icon if key in icon_set})
    icon.update(icon_set["icons"][name])
    box = "{left} {top} {width} {height}".format(**icon)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{box}">{icon["body"]}</svg>'
