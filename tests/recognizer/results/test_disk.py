import io
import os

import pytest

from memory.durable import write_all
from recognizer.results import OutputUnusable
from recognizer.results.disk import disk_error, open_locked, require_writable


def test_a_file_has_one_writer_and_keeps_its_content(tmp_path):
    path = tmp_path / "new" / "rows"
    with open_locked(path) as stream:
        stream.write(b"rows")
        with pytest.raises(OutputUnusable, match="another run is writing this file"):
            open_locked(path)
        with pytest.raises(OutputUnusable, match="another run"):
            require_writable(path)
    with open_locked(path) as stream:
        assert stream.read() == b"rows"


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_the_lock_is_of_the_file_that_has_the_name(tmp_path, monkeypatch, change):
    path = tmp_path / "rows"
    path.write_bytes(b"old")
    system_open, opened = os.open, []

    def changed_after_the_first(*arguments, **options):
        opened.append(system_open(*arguments, **options))
        if len(opened) == 1:  # between open and lock, another process puts the file aside
            path.rename(tmp_path / "aside")
            if change == "replaced":
                path.write_bytes(b"other")
        return opened[-1]

    monkeypatch.setattr(os, "open", changed_after_the_first)
    with open_locked(path) as stream:
        assert len(opened) == 2
        stream.write(b"new")
    assert (tmp_path / "aside").read_bytes() == b"old"
    assert path.read_bytes()[:3] == b"new"


def test_a_check_leaves_nothing_behind_and_changes_nothing(tmp_path):
    (tmp_path / "rows").write_bytes(b"rows")
    (tmp_path / "empty").touch()
    for name in ("rows", "empty", "new"):
        require_writable(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "rows"]
    assert (tmp_path / "rows").read_bytes() == b"rows"
    for bad in (tmp_path, tmp_path / "rows" / "below"):
        with pytest.raises(OutputUnusable, match="cannot be written"):
            require_writable(bad)


def test_every_byte_is_written_where_the_system_takes_a_few_at_a_time():
    class Slow(io.BytesIO):
        def write(self, data):
            return super().write(data[:3])

    stream = Slow()
    write_all(stream, b"0123456789")
    assert stream.getvalue() == b"0123456789"


def test_an_error_of_the_disk_says_what_is_safe_and_how_to_continue(tmp_path):
    full = OSError(28, "No space left on device")
    assert "writing 40 bytes failed: No space left on device" in str(disk_error(tmp_path, full, 40))
    for size in (0, 40):
        said = str(disk_error(tmp_path, full, size))
        assert said.startswith(str(tmp_path))
        assert "the rows written before are kept" in said
        assert said.endswith("repeat the command to resume")
        assert ("0 bytes" in said) == (size == 40)
