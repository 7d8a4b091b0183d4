import struct
import zlib

import pytest

from tests.benchmarks.gcompris import gcompris, read_rcc


def resource_file(files):
    """A binary resource file of Qt, format 1: {"a/b.webp": content}, every third content compressed."""
    nodes, data, names, children = [("", {})], b"", b"", {}
    for path in files:
        folder = nodes[0][1]
        for part in path.split("/"):
            folder = folder.setdefault(part, {})
    flat = [("", nodes[0][1], "")]
    for _, below, path in flat:  # breadth first: the children of a node are neighbours
        children[path] = len(flat)
        flat += [(child, deeper, f"{path}/{child}".strip("/")) for child, deeper in below.items()]
    tree = b""
    for number, (name, below, path) in enumerate(flat):
        name_at = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        if below:
            tree += struct.pack(">IHII", name_at, 2, len(below), children[path])
            continue
        packed = number % 3 == 0
        content = struct.pack(">I", len(files[path])) + zlib.compress(files[path]) if packed else files[path]
        tree += struct.pack(">IHHHI", name_at, int(packed), 0, 0, len(data))
        data += struct.pack(">I", len(content)) + content
    start = 20
    header = struct.pack(">4s4I", b"qres", 1, start, start + len(tree), start + len(tree) + len(data))
    return header + tree + data + names


def test_photographs_of_gcompris_are_unpacked_once_and_named_by_their_file(tmp_path):
    folder = tmp_path / "gcompris-qt-data/usr/share/gcompris-qt/rcc"
    folder.mkdir(parents=True)
    activity = "gcompris/src/activities/categorization/resource"
    files = {
        f"{activity}/images/tools/screwDriver2.webp": b"screw",
        f"{activity}/images/tools/tweezer1.webp": b"tweezers",
        f"{activity}/images/monuments/statueofLiberty.webp": b"liberty",
        f"{activity}/images/monuments/monument3.webp": b"some",
        f"{activity}/images/numbers/numbers.webp": b"123",
        f"{activity}/board/board1.qml": b"code",
    }
    archive = resource_file(files)
    assert dict(read_rcc(archive)) == files
    (folder / "categorization.rcc").write_bytes(archive)
    shown = {picture.name: picture.path.read_bytes() for picture in gcompris(tmp_path)}
    assert shown == {"screw driver": b"screw", "tweezers": b"tweezers", "statue of liberty": b"liberty"}
    gcompris(tmp_path)[0].path.write_bytes(b"kept")
    assert b"kept" in {picture.path.read_bytes() for picture in gcompris(tmp_path)}


def test_another_file_is_refused():
    with pytest.raises(ValueError, match="not a resource file of Qt"):
        list(read_rcc(b"RIFF and more of it"))
