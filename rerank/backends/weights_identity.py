"""What names the weights of a local model in the cache's key."""

from __future__ import annotations

import hashlib
from pathlib import Path


def weights_identity(model: str, revision: str | None) -> str:
    """Name the weights: a local directory by its files, a hub model by its commit.

    Weights of many gigabytes are not read for it: name, size and time of change stand for a file's content, so a
    copied directory is asked anew, which costs time and is never wrong.

    Args:
        model: a directory, or a hub name.
        revision: the commit of a hub model, as resolved.
    """
    folder = Path(model)
    if not folder.is_dir():
        return f"{model}@{revision or 'main'}"
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return f"{folder.name}#{digest.hexdigest()[:16]}"
