import pytest

from memory.errors import WriteFailed
from memory.spool import Spool


def test_what_is_appended_is_read_at_any_time(tmp_path):
    spool = Spool(tmp_path)
    wanted = [b"", b"a", b"\0" * 100_000, b"", "é".encode()]
    for number, data in enumerate(wanted, start=1):
        spool.append(data)
        assert spool.read(range(number)) == wanted[:number]
    assert spool.read([4, 1, 1]) == [wanted[4], b"a", b"a"]
    assert len(spool) == 5


def test_no_file_is_left(tmp_path):
    spool = Spool(tmp_path)
    spool.append(b"x")
    del spool
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said():
    with pytest.raises(WriteFailed, match="temporary file: cannot be written: No such file"):
        Spool("/nowhere")
