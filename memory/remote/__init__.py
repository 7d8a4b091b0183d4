"""Memories on an object store: `s3://`, `gs://` and `az://`.

A memory at such an address consists of what its MEMORY.json lists, as in a directory. Enter at `memory.Memory`, whose
`open` and `build` take an address wherever they take a directory. Each address has a mirror in the user's cache, where
all the code for directories works on it.
"""

from typing import Final

CALIBRATION: Final = "calibration.yaml"
"""Name of the settings that calibration fitted, in the directory of a memory."""
