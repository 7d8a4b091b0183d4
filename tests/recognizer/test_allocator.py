import gc
import os
import platform
import subprocess
import sys

import pytest

from recognizer.allocator import imports_uncollected, keep_freed_memory, let_idle_threads_sleep

# Fills and frees three blocks of 16 MiB, ten times over, and counts the pages that the kernel hands out.
FAULTS = """
import resource
from recognizer.allocator import keep_freed_memory, let_idle_threads_sleep
{setting}
def fill():
    blocks = [bytearray(2**24) for _ in range(3)]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
before = faults()
for _ in range(10):
    fill()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_pages_of_freed_blocks_are_used_again():
    def faults(setting: str) -> int:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        command = [sys.executable, "-c", FAULTS.format(setting=setting)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)

    assert faults("assert keep_freed_memory()") < faults("") / 10


def test_the_users_own_setting_stays(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("os.confstr_names", {})
    assert not keep_freed_memory()


@pytest.mark.parametrize(("own", "then"), [(None, "4"), ("20", "20")])
def test_idle_threads_sleep_unless_the_user_wants_otherwise(monkeypatch, own, then):
    monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", own or "")
    if own is None:
        monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT")
    let_idle_threads_sleep()
    assert os.environ.pop("OPENBLAS_THREAD_TIMEOUT") == then
    monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", then)


def test_the_command_line_has_not_loaded_numpy_when_it_sets_the_threads_of_openblas():
    code = "import sys, recognizer.cli; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_collector_pauses_and_then_leaves_alone_what_is_there():
    kept = [[]]

    def fail():
        with imports_uncollected():
            assert not gc.isenabled()
            raise ImportError

    try:
        with pytest.raises(ImportError):
            fail()
        assert gc.isenabled()
        assert not any(each is kept for each in gc.get_objects())
    finally:
        gc.unfreeze()
