"""Photographs of GCompris, a collection of children's games: monuments, animals, tools, fish, energy, things at home.

Nothing is trained on them. They show whether an encoder forgot anything during training.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from memory.durable import replacing
from training.starter.pictures import Picture, require_some

_RESOURCES = Path("gcompris-qt-data/usr/share/gcompris-qt/rcc")
_GAMES = ("explore_monuments", "explore_farm_animals", "explore_world_animals", "categorization")
_ACTIVITIES = PurePosixPath("gcompris/src/activities")
_FOLDERS = re.compile(r"/resource/(?:wonders|usa|india|egypt|france|germany|animals|images/[a-z]+)/[^/]+\.webp$")
_NOT_ONE_THING = re.compile(r"/images/(?:alphabets|numbers)/|/monument\d")
_COUNTED = re.compile(r"\d+$")
_RUN_ON = re.compile(r"(?<=[a-z])(of|des?|du)(?=[A-Z])")  # "statueofLiberty"
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|_")
_SPELLED_OUT = {
    "blackslate": "slate board",
    "buffetset": "dinner set",
    "bulb": "light bulb",
    "dragon": "Komodo dragon",
    "erasers": "eraser",
    "geothermal": "geothermal power plant",
    "greatPyramid": "great pyramid of giza",
    "greatWall": "great wall of china",
    "kutubMinar": "qutub minar",
    "plier": "pliers",
    "solar": "solar panel",
    "spray": "spray bottle",
    "tweezer": "tweezers",
    "windmill": "wind turbine",
}
_COMPRESSED, _DIRECTORY, _ZSTD = 1, 2, 4


def gcompris(root: Path) -> list[Picture]:
    """List 210 photographs of 121 things; the name is the file's, words separated, lower case.

    Args:
        root: the folder that `fetch_pictures.sh` fills; the photographs are unpacked once, to `photographs` in the
            package.

    Raises:
        FileNotFoundError: the package is missing below `root`; the message says how to fetch it.
        memory.errors.WriteFailed: a photograph cannot be written.
    """
    base = root / _RESOURCES
    archives = [base / f"{game}.rcc" for game in _GAMES if (base / f"{game}.rcc").exists()]
    return require_some([picture for archive in archives for picture in _unpacked(archive)], base)


def _unpacked(archive: Path) -> Iterator[Picture]:
    for name, content in sorted(read_rcc(archive.read_bytes())):
        if not _FOLDERS.search(name) or _NOT_ONE_THING.search(name):
            continue
        path = archive.parent / "photographs" / PurePosixPath(name).relative_to(_ACTIVITIES)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as draft:
                draft.write_bytes(content)
        yield Picture(path, _name(path))


def _name(path: Path) -> str:
    stem = _COUNTED.sub("", path.stem)
    return _SPELLED_OUT.get(stem, _WORDS.sub(" ", _RUN_ON.sub(r" \1 ", stem)).lower())


def read_rcc(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the files in a binary resource file of Qt, formats 1 to 3.

    Files compressed by Zstandard are skipped; photographs are not compressed in that way.

    Raises:
        ValueError: the bytes are not a resource file.
    """
    if archive[:4] != b"qres":
        raise ValueError("this is not a resource file of Qt: it does not begin with qres")
    version, tree, data, names = struct.unpack_from(">4I", archive, 4)
    node_size = 14 if version == 1 else 22

    def walk(node: int, folder: PurePosixPath) -> Iterator[tuple[str, bytes]]:
        name_at, flags = struct.unpack_from(">IH", archive, tree + node * node_size)
        (length,) = struct.unpack_from(">H", archive, names + name_at)
        start = names + name_at + 6
        path = folder / archive[start : start + 2 * length].decode("utf-16-be") if node else folder
        if flags & _DIRECTORY:
            count, first = struct.unpack_from(">2I", archive, tree + node * node_size + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
        elif not flags & _ZSTD:
            (at,) = struct.unpack_from(">I", archive, tree + node * node_size + 10)
            (size,) = struct.unpack_from(">I", archive, data + at)
            content = archive[data + at + 4 : data + at + 4 + size]
            yield str(path), zlib.decompress(content[4:]) if flags & _COMPRESSED else content

    yield from walk(0, PurePosixPath())
