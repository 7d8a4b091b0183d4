"""Versions of what takes part in a run, read without importing it."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata

PACKAGES = (
    "recognizer",
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "transformers",
    "lancedb",
    "faiss-gpu",
    "faiss-cpu",
    "numpy",
    "pillow",
    "pyarrow",
)


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Look up installed versions.

    Args:
        packages: names of distributions.

    Returns:
        Version by name, with ``python`` and ``platform``; what is not installed is left out.
    """
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
