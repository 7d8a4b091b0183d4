"""Letting a function that builds a memory in a directory take an address, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from memory.category import Category
from memory.remote.address import is_address

if TYPE_CHECKING:
    from memory.memory import Memory

Build = TypeVar("Build", bound="Callable[..., Memory]")


def at_addresses(build: Build) -> Build:
    """Wrap ``Memory.build``: at an address it builds in the mirror, and publishes what it has built."""

    @wraps(build)
    def build_anywhere(
        cls: type[Memory],
        categories: Iterable[Category],
        directory: str | Path,
        **options: Any,  # noqa: ANN401  those of the function
    ) -> Memory:
        if not is_address(directory):
            return build(cls, categories, directory, **options)
        from memory.remote.memory import RemoteMemory

        return RemoteMemory.build_at(str(directory), lambda path: build(cls, categories, path, **options))

    return cast(Build, build_anywhere)
