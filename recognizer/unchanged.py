"""Seeing from its input files alone that a build has nothing to do, before anything is parsed or loaded.

A build from the command line leaves BUILD.json beside MEMORY.json. It holds a hash over the input files and options,
the hash of the MEMORY.json that the build left, and the sizes and times of the encoder's weights. Each change of the
memory or of its settings writes another MEMORY.json, and then the next build compares category by category.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from memory import Memory, MemoryStoreError
from memory.durable import file_sha256, replacing
from memory.flat.reader import read_flat
from memory.integrity import check_files
from memory.manifest import Manifest, read_manifest
from memory.sealed import seal, sha256_of, unseal
from memory.search import index_is_current
from recognizer.errors import RecognizerError

RECORD_NAME: Final = "BUILD.json"
# Their weights are several files of a folder or repository, which may change under the same name.
_CHANGING = ("hf-hub:", "local-dir:")


def input_hash(files: Sequence[Path | None], options: Mapping[str, object]) -> str | None:
    """Return a hash over the input files of a build, its options and this release.

    Args:
        files: in an order that says what each is for; names count too, as descriptions name their file as source.
        options: JSON values.

    Returns:
        The hash; None where a path is not a regular file, such as a folder or a pipe, or cannot be read.
    """
    from recognizer import __version__

    if not all(path is None or path.is_file() for path in files):
        return None
    try:
        read = [None if path is None else [path.name, file_sha256(path)] for path in files]
        return sha256_of({"files": read, "options": dict(options), "release": __version__})
    except (OSError, ValueError):  # unreadable, or a name that is not text; the build says so
        return None


def unchanged_memory(directory: Path, inputs: str | None) -> Memory | None:
    """Return a memory that holds already what a build would make; None where a build must compare.

    Args:
        directory: of the memory.
        inputs: of the build, from `input_hash`.
    """
    if inputs is None:
        return None
    try:
        manifest = read_manifest(directory)
        record = unseal((directory / RECORD_NAME).read_bytes())
        if record != _record(inputs, manifest, {file: _stamp(file) for file in record["weights"]}):
            return None
        # Whole files: who is told to build again because of damage must not be told that there is nothing to do.
        check_files(directory, manifest, manifest.tables, whole=True)
    except (OSError, ValueError, KeyError, TypeError, MemoryStoreError):
        return None
    if read_flat(directory, manifest) is None:
        return None
    has_index = manifest.index.kind == "exact" or index_is_current(directory, manifest)
    return Memory(directory, manifest) if has_index else None


def remember_build(built: Memory, inputs: str | None) -> None:
    """Record what a memory was built from, where the next build can rely on it; a disk that refuses costs only time.

    Args:
        built: as the build returned it.
        inputs: from `input_hash`, taken before the files were parsed.
    """
    if inputs is None or built.report.index_problem:  # an index that was refused is tried again
        return
    with contextlib.suppress(OSError, MemoryStoreError, RecognizerError):
        weights, manifest = _weights(built.encoder.spec), read_manifest(built.directory)
        if weights is None or manifest.tables_digest() != built.digest:  # another program has changed it meanwhile
            return
        with replacing(built.directory / RECORD_NAME) as draft:
            draft.write_bytes(seal(_record(inputs, manifest, weights)))


def _record(inputs: str, manifest: Manifest, weights: Mapping[str, list[int]]) -> dict[str, Any]:
    return {"inputs": inputs, "memory": hashlib.sha256(manifest.to_bytes()).hexdigest(), "weights": dict(weights)}


def _stamp(file: str) -> list[int]:
    """Return size and time of the last change; hashing gigabytes of weights would take longer than the rest."""
    status = Path(file).stat()
    return [status.st_size, status.st_mtime_ns]


def _weights(spec: Mapping[str, Any]) -> dict[str, list[int]] | None:
    """Return the files outside of this release that an encoder's vectors depend on; None where they are not known.

    The weights of a tag of open_clip are known by its name.
    """
    match spec:
        case {"kind": "starter"}:
            return {}
        case {"kind": "trained", "file": file}:
            from recognizer.encoder.trained_file import TrainedFile

            base = _weights(TrainedFile.read(Path(file)).base)
            return None if base is None else {**base, file: _stamp(file)}
        case {"kind": "open_clip", "model": model, "pretrained": str(weights)} if not model.startswith(_CHANGING):
            return {weights: _stamp(weights)} if Path(weights).is_absolute() else {}
    return None
