"""Pictures of furniture and household things: the previews in the libraries of Sweet Home 3D."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from memory.durable import replacing
from training.starter.pictures import Picture, require_some

_LIBRARIES = Path("sweethome3d-furniture/usr/share/sweethome3d/furniture")
_CATALOGUE = "PluginFurnitureCatalog.properties"
_ENTRY = re.compile(r"^(name|icon)#(\d+)\s*=\s*(.*?)\s*$", re.MULTILINE)
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
# People and parts of buildings are not objects one would look for.
_LEFT_OUT = re.compile(r"\b(?:male|female|man|woman|boy|girl|wall|corner|piece)\b", re.IGNORECASE)


def furniture(root: Path) -> list[Picture]:
    """List the rendered previews, 128 pixels on a transparent background, about 500 names in lower case.

    Args:
        root: the folder that `fetch_pictures.sh` fills; the previews are unpacked once, to `previews` in the package.

    Raises:
        FileNotFoundError: the package is missing below `root`; the message says how to fetch it.
        memory.errors.WriteFailed: a preview cannot be written.
    """
    base = root / _LIBRARIES
    return require_some([picture for library in sorted(base.glob("*.sh3f")) for picture in _unpacked(library)], base)


def _unpacked(library: Path) -> Iterator[Picture]:
    folder = library.parent / "previews" / library.stem
    with zipfile.ZipFile(library) as archive:
        for number, name, icon in _entries(archive.read(_CATALOGUE).decode("latin-1")):
            path = folder / f"{number}.png"
            if not path.exists():
                folder.mkdir(parents=True, exist_ok=True)
                with replacing(path) as draft:
                    draft.write_bytes(archive.read(icon.lstrip("/")))
            yield Picture(path, name)


def _entries(catalogue: str) -> Iterator[tuple[str, str, str]]:
    """Yield number, name and icon of each entry of a catalogue (Java properties)."""
    fields: dict[str, dict[str, str]] = {}
    for field, number, value in _ENTRY.findall(catalogue):
        fields.setdefault(number, {})[field] = _ESCAPE.sub(lambda code: chr(int(code[1], 16)), value)
    for number, entry in fields.items():
        name = entry.get("name", "").lower()
        if name and "icon" in entry and not _LEFT_OUT.search(name):
            yield number, name, entry["icon"]
