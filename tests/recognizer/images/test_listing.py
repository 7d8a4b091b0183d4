import os

import pytest

from memory import read_labels
from recognizer.images import ImageInputError, list_images
from recognizer.images.key import display_key


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


def test_runs_and_label_folders_agree_on_what_is_an_image(tmp_path):
    folder = tmp_path / "labels" / "cat"
    folder.mkdir(parents=True)
    for suffix in ("jp2", "PNG", "pnm", "jfif", "avif", "txt", "svg", "npy", "jpg.part"):
        (folder / f"image.{suffix}").touch()
    (category,) = read_labels(tmp_path / "labels")
    listed = keys(list_images([folder]))
    assert [os.path.basename(path) for path in category.exemplars] == listed
    assert listed == [f"image.{suffix}" for suffix in ("PNG", "avif", "jfif", "jp2", "pnm")]


def test_absolute_keys_name_the_same_files_in_the_same_order(folder):
    listing = list_images([folder])
    absolute = listing.with_absolute_keys()
    assert [item.path for item in absolute] == [item.path for item in listing]
    assert list(absolute.keys) == [display_key(item.path) for item in listing]
    assert (absolute.root, absolute.left_out) == (listing.root, listing.left_out)


@pytest.fixture
def album(tmp_path, gradient):
    """A folder as a network storage, a desktop and a macOS archive leave it."""
    for name in (
        "1.jpg",
        "1_small.jpg",
        "a/2.jpg",
        "a/2_small.jpg",
        "a/raw/3.jpg",
        "raw/4.jpg",
        "raw.jpg",
        "._1.jpg",
        "a/._2.jpg",
        "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
        "a/@eaDir/2.jpg",
        ".thumbnails/5.png",
        "__MACOSX/._1.jpg",
        ".git/6.jpg",
    ):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        gradient.save(path)
    return tmp_path / "album"


SYSTEM = "2 folders @eaDir, 1 folder .thumbnails, 1 folder __MACOSX, 2 macOS metadata files, 1 hidden folder"


@pytest.mark.parametrize(
    ("exclude", "expected", "left_out"),
    [
        ([], ["1.jpg", "1_small.jpg", "a/2.jpg", "a/2_small.jpg", "a/raw/3.jpg", "raw.jpg", "raw/4.jpg"], ""),
        (["*_small.jpg"], ["1.jpg", "a/2.jpg", "a/raw/3.jpg", "raw.jpg", "raw/4.jpg"], "2 excluded files, "),
        (["raw", "?_small*"], ["1.jpg", "a/2.jpg", "raw.jpg"], "2 excluded files, 2 excluded folders, "),
        (["raw/"], ["1.jpg", "1_small.jpg", "a/2.jpg", "a/2_small.jpg", "raw.jpg"], "2 excluded folders, "),
        (["/raw", "a/*.jpg"], ["1.jpg", "1_small.jpg", "a/raw/3.jpg", "raw.jpg"], "2 excluded files, 1 excluded f"),
        (["**/raw/**", "1*"], ["a/2.jpg", "a/2_small.jpg", "raw.jpg"], "4 excluded files, "),
        (["[a1]*"], ["raw.jpg", "raw/4.jpg"], "2 excluded files, 1 excluded folder, "),
    ],
)
def test_what_is_excluded_is_counted(album, exclude, expected, left_out):
    listing = list_images(album, exclude=exclude)
    assert list(listing.keys) == expected
    system = (
        SYSTEM
        if "[a1]*" not in exclude
        else SYSTEM.replace("2 folders", "1 folder").replace("2 macOS metadata files", "1 macOS metadata file")
    )
    assert listing.left_out[0].startswith(f"left out: {left_out}")
    assert listing.left_out[0].endswith(system)


def test_system_files_are_left_out_of_globs_and_may_be_named(album):
    listing = list_images(album / "**" / "*.jpg")
    assert len(listing) == 7
    assert list(list_images(album / "@eaDir").keys) == ["1.jpg/SYNOPHOTO_THUMB_M.jpg"]
    assert list(list_images([album / "._1.jpg"]).keys) == ["._1.jpg"]


def test_named_files_can_be_excluded(album, tmp_path):
    (tmp_path / "list.txt").write_text("album/1.jpg\nalbum/raw/4.jpg\nalbum/1_small.jpg\n")
    listing = list_images([tmp_path / "list.txt", album / "a" / "2.jpg"], exclude=["raw", "?.jpg"])
    assert list(listing.keys) == ["album/1_small.jpg"]
    assert listing.left_out == ("left out: 3 excluded files",)
    with pytest.raises(ImageInputError, match=r"\[z-a\]: not a valid glob"):
        list_images(album, exclude=["[z-a]"])
