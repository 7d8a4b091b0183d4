import os
import platform
import subprocess
import sys

import pytest

from recognizer.allocator import keep_freed_memory

# Fills and frees three blocks of 16 MiB, ten times over, and counts the pages that the kernel hands out.
FAULTS = """
import resource
from recognizer.allocator import keep_freed_memory
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
