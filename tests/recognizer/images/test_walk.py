import os
import socket
import time

import pytest

from recognizer.images import list_images
from recognizer.images.walk import walk_files


def keys(listing):
    return [item.key for item in listing]


@pytest.fixture
def folder(tmp_path):
    """Two folders with equal basenames, and much that is no image."""
    for name in (
        "b/1.jpg",
        "a/1.JPG",
        "a/deep/er/2.png",
        "a.tiff",
        "a/.hidden.jpg",
        ".git/3.jpg",
        ".git/.h.jpg",
        "a/notes.md",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*/1.*", ["a/1.JPG", "b/1.jpg"]),
        ("**/*.png", ["a/deep/er/2.png"]),
        ("**", ["a.tiff", "a/1.JPG", "a/deep/er/2.png", "b/1.jpg"]),
        ("a/**/*.png", ["deep/er/2.png"]),
        ("a/*", ["1.JPG"]),
        ("[!a]/?.jpg", ["b/1.jpg"]),
        ("a/.h*", [".hidden.jpg"]),
        ("*/.h*", ["a/.hidden.jpg"]),
        (".g*/*", [".git/3.jpg"]),
        ("**/*.md", ["a/notes.md"]),
    ],
)
def test_globs(folder, monkeypatch, pattern, expected):
    assert keys(list_images(str(folder / pattern))) == expected
    monkeypatch.chdir(folder)
    assert keys(list_images([pattern])) == expected


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(1, {b"a.tiff"}), (2, {b"a.tiff", b"a/1.JPG", b"b/1.jpg"}), (3, {b"a.tiff", b"a/1.JPG", b"b/1.jpg"})],
)
def test_a_walk_goes_no_deeper_than_it_must(folder, depth, expected):
    (folder / "a" / "deep" / "link").symlink_to(folder)
    problems = []
    assert set(walk_files(os.fsencode(folder), problems=problems, left_out={}, depth=depth)) == expected
    assert len(problems) == (depth == 3)  # the link is met on its level alone


def test_each_regular_file_exactly_once(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "1.jpg").touch()
    (root / "sub" / "up").symlink_to(root)
    (root / "round.jpg").symlink_to("round.jpg")
    (root / "gone.jpg").symlink_to("nothing.jpg")
    (root / "link.jpg").symlink_to("sub/1.jpg")
    (root / "x.jpg").mkdir()
    (root / "x.jpg" / "2.jpg").touch()
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.jpg"))
        listing = list_images(root)
    assert keys(listing) == ["link.jpg", "sub/1.jpg", "x.jpg/2.jpg"]
    assert [(os.path.basename(each.path), each.reason) for each in listing.problems] == [
        ("up", "a link to a folder is not followed")
    ]
    (tmp_path / "way in").symlink_to(root)
    assert len(list_images(tmp_path / "way in")) == 3


def test_a_folder_that_cannot_be_read_is_reported(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if path.endswith(b"deep/"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_images(folder)
    assert keys(listing) == ["a.tiff", "a/1.JPG", "b/1.jpg"]
    assert [(each.path.endswith("deep/"), each.reason) for each in listing.problems] == [
        (True, "the folder cannot be read: Permission denied")
    ]


@pytest.mark.timing
def test_a_large_folder_is_listed_quickly(tmp_path, monkeypatch):
    class Entry:
        def __init__(self, number):
            self.name = b"%07d.jpg" % number

        def is_dir(self, follow_symlinks):
            return False

        def is_file(self, follow_symlinks):
            return True

    class Entries:
        def __enter__(self):
            return self

        def __iter__(self):
            return map(Entry, range(100_000))

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", lambda _: Entries())
    started = time.perf_counter()
    listing = list_images(tmp_path)
    assert time.perf_counter() - started < 2
    assert (len(listing), listing[-1].key) == (100_000, "0099999.jpg")
