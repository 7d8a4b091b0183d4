import os
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import read_labels
from recognizer.images import ImageInputError, list_images
from recognizer.images.key import display_key, key_base64, key_from_display


@pytest.fixture
def folder(tmp_path):
    """Two folders with equal basenames, and much that is no image."""
    for name in ("b/1.jpg", "a/1.JPG", "a/deep/er/2.png", "a.tiff", "a/.hidden.jpg", ".git/3.jpg", "a/notes.md"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def keys(listing):
    return [item.key for item in listing]


def test_a_folder_is_listed_by_path_bytes(folder):
    listing = list_images([folder])
    assert keys(listing) == ["a.tiff", "a/1.JPG", "a/deep/er/2.png", "b/1.jpg"]
    assert list(listing.keys) == keys(listing)
    assert listing.keys[1:3] == ["a/1.JPG", "a/deep/er/2.png"]
    assert [item.key for item in listing[1:3]] == ["a/1.JPG", "a/deep/er/2.png"]
    assert all(os.path.isfile(item.path) for item in listing)
    assert (listing.problems, listing.root) == ((), os.fsencode(folder))


def test_several_inputs_share_a_root_and_keep_their_order(folder):
    listing = list_images([folder / "b", folder / "a", folder / "b" / "1.jpg"])
    assert keys(listing) == ["b/1.jpg", "a/1.JPG", "a/deep/er/2.png"]
    assert os.path.samefile(listing[0].path, folder / "b" / "1.jpg")


def test_single_files_are_taken_whatever_their_name(folder):
    assert keys(list_images(folder / "a" / "notes.md")) == ["notes.md"]
    assert keys(list_images([folder / "a" / ".hidden.jpg", folder / "b" / "1.jpg"])) == ["a/.hidden.jpg", "b/1.jpg"]


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
        ("**/*.md", ["a/notes.md"]),
    ],
)
def test_globs(folder, monkeypatch, pattern, expected):
    assert keys(list_images(str(folder / pattern))) == expected
    monkeypatch.chdir(folder)
    assert keys(list_images([pattern])) == expected


def test_a_name_with_brackets_is_itself(tmp_path):
    (tmp_path / "a[1].jpg").touch()
    assert keys(list_images(tmp_path / "a[1].jpg")) == ["a[1].jpg"]


def test_a_file_list_is_relative_to_its_folder_and_keeps_its_order(folder, monkeypatch):
    elsewhere = folder.parent / "other.jpg"
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfb/1.jpg\r\n\n./a/1.JPG\nb/1.jpg\nmissing.jpg\n \n")
    listing = list_images([folder / "list.txt"])
    assert keys(listing) == ["b/1.jpg", "a/1.JPG", "missing.jpg"]
    (folder / "far").write_text(f"{elsewhere}\nb/1.jpg\n")
    monkeypatch.chdir(folder)
    assert keys(list_images("@far")) == ["other.jpg", "photos/b/1.jpg"]
    (folder / "zeros").write_bytes(b"a\nb.jpg\0 c.jpg\0")
    assert keys(list_images("@zeros")) == ["a\nb.jpg", " c.jpg"]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ([], "no images were named"),
        ("nowhere", "no such file or folder"),
        ("@nowhere", "file list cannot be read"),
        ("*.xyz", "matches no image file"),
        ("[z-a]*.jpg", "not a valid glob"),
        ("empty.txt", "names no image"),
        ("utf16.txt", "UTF-16"),
    ],
)
def test_inputs_that_name_nothing(folder, monkeypatch, named, said):
    monkeypatch.chdir(folder)
    (folder / "empty.txt").write_text("\n\n")
    (folder / "utf16.txt").write_text("a.jpg", encoding="utf-16")
    with pytest.raises(ImageInputError, match=said):
        list_images(named)


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


def test_any_bytes_in_a_name(tmp_path):
    names = [b"bad_\xff\xfe.jpg", b"bad_\\xff\\xfe.jpg", b"a\nb.jpg", b"x" * 251 + b".jpg", "ש🐈\\.jpg".encode()]
    for name in names:
        open(os.path.join(os.fsencode(tmp_path), name), "wb").close()
    listing = list_images(tmp_path)
    assert len(set(keys(listing))) == len(names)
    assert {item.key_bytes for item in listing} == set(names)
    assert {item.key for item in listing if item.key_base64 is None} == {
        names[2].decode(),
        "ש🐈\\.jpg",
        "x" * 251 + ".jpg",
    }
    assert {item.key for item in listing if item.key_base64} == {"bad_\\xff\\xfe.jpg", "bad_\\\\xff\\\\xfe.jpg"}


path_bytes = st.binary(max_size=30) | st.lists(st.sampled_from([b"\\", b"\\xff", b"\xff", b"x", b"0", b"e9"])).map(
    b"".join
)


@given(path_bytes, path_bytes)
def test_keys_can_be_turned_back_and_are_distinct(first, second):
    key = display_key(first)
    assert key_from_display(key) == first
    assert (key == display_key(second)) == (first == second)
    assert (key_base64(first) is None) == (key.encode() == first)


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


def test_runs_and_label_folders_agree_on_what_is_an_image(tmp_path):
    folder = tmp_path / "labels" / "cat"
    folder.mkdir(parents=True)
    for suffix in ("jp2", "PNG", "pnm", "jfif", "avif", "txt", "svg", "npy", "jpg.part", "heic"):
        (folder / f"image.{suffix}").touch()
    (category,) = read_labels(tmp_path / "labels")
    listed = keys(list_images([folder]))
    assert [os.path.basename(path) for path in category.exemplars] == listed
    assert listed == [f"image.{suffix}" for suffix in ("PNG", "avif", "jfif", "jp2", "pnm")]
