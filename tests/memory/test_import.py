import subprocess
import sys
from pathlib import Path

import pytest

import memory

CHECK = """
import sys
import memory
heavy = {"torch", "lancedb", "faiss", "pyarrow", "pandas", "transformers", "open_clip", "PIL", "numpy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
memory.read_labels(sys.argv[1])
assert not {"torch", "lancedb", "faiss", "pyarrow"} & set(sys.modules)
"""


def test_importing_and_reading_labels_load_nothing_heavy(tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\n")
    subprocess.run([sys.executable, "-c", CHECK, str(labels)], check=True, cwd=Path(memory.__file__).parents[1])


def test_every_public_name_exists():
    assert all(getattr(memory, name) is not None for name in memory.__all__)
    assert memory.__all__ == sorted(memory.__all__)
    with pytest.raises(AttributeError, match="no attribute 'inner_products'"):
        _ = memory.inner_products
