import os

import pytest

from recognizer.images.rooted import path_under


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "sub" / "a.jpg").touch()
    (tmp_path / "rootlike").mkdir()
    (tmp_path / "rootlike" / "a.jpg").touch()
    return tmp_path / "root"


def test_paths_inside_are_returned_without_links(root):
    (root / "in.jpg").symlink_to("sub/a.jpg")
    (root.parent / "alias").symlink_to(root)
    inside = os.fsencode(root / "sub" / "a.jpg")
    for folder in (root, os.fsencode(root), root.parent / "alias"):
        for name in ("sub/a.jpg", b"sub/a.jpg", "sub/../sub/a.jpg", "in.jpg", str(root / "sub" / "a.jpg")):
            assert path_under(folder, name) == inside
    assert path_under(root, "none.jpg") == os.fsencode(root / "none.jpg")


@pytest.mark.parametrize(
    "name", ["..", "../rootlike/a.jpg", "sub/../../rootlike/a.jpg", "/etc/passwd", "a\0b", "\ud800"]
)
def test_paths_outside_and_what_is_no_path_are_none(root, name):
    assert path_under(root, name) is None


def test_links_that_lead_outside_are_none(root):
    (root / "file.jpg").symlink_to(root.parent / "rootlike" / "a.jpg")
    (root / "folder").symlink_to(root.parent / "rootlike")
    (root / "sub" / "climb").symlink_to("../..")
    for name in ("file.jpg", "folder/a.jpg", "folder/none.jpg", "sub/climb/rootlike/a.jpg"):
        assert path_under(root, name) is None
