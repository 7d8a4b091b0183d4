"""The fit of a memory's exemplars, in a file beside its tables, so that it is made once and not at every start.

The file names what the fit was made from: the tables of the memory, the settings of the head, and what decides how
numbers are rounded. A file of other tables or another machine, or a damaged one, counts for nothing; the next fit
replaces it. So results are the same bytes with a stored fit and without one.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from memory import Memory
from memory.durable import replacing
from memory.errors import WriteFailed
from memory.sealed import sha256_of
from recognizer.cores import blas_kernels
from recognizer.heads.constants import Constants
from recognizer.heads.kernel_ridge import Fit
from recognizer.settings import ScoreSettings

NAME: Final = "exemplars.fit"
_FORMAT = 1
"""Rises when the same exemplars may give another fit, or the file has another layout."""
_SUM = "sha256"


@dataclass(frozen=True, slots=True)
class StoredFit:
    """The place of a fit.

    Attributes:
        path: of the file.
        kernels: the `blas_kernels`.
        key: hash over these and all else that the fit is made from.
    """

    path: Path
    kernels: list[str]
    key: str

    @classmethod
    def of(cls, memory: Memory, settings: ScoreSettings) -> StoredFit | None:
        """Return the place for a memory with exemplars; None where it is on an object store."""
        place = memory.location
        if not isinstance(place, Path):
            return None
        kernels = blas_kernels()
        made_from = {
            "format": _FORMAT,
            "release": version("recognizer"),
            "tables": memory.digest,
            "head": [settings.head, settings.head_beta, settings.head_ridge],
            "libraries": [np.__version__, version("scipy"), kernels],
            "processor": np.show_config(mode="dicts")["SIMD Extensions"],
        }
        return cls(place / NAME, kernels, sha256_of(made_from))

    def read(self) -> Fit | None:
        """Return the stored fit; None where there is none of these exemplars, or it is damaged."""
        try:
            with safe_open(self.path, framework="np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
                if (file.metadata() or {}).get(_SUM) != self._sum(arrays):
                    return None
        except (OSError, SafetensorError, ValueError, TypeError):
            return None
        beta, ridge, spread, shift = arrays["numbers"].tolist()
        return Fit(Constants(beta, ridge), spread, arrays["coefficients"], arrays["weights"], arrays["doubted"], shift)

    def write(self, fit: Fit) -> None:
        """Store a fit, where the folder can be written."""
        if blas_kernels() != self.kernels:  # another thread has limited the threads meanwhile
            return
        numbers = [fit.constants.beta, fit.constants.ridge, fit.spread, fit.shift]
        arrays: dict[str, NDArray[Any]] = {
            "numbers": np.array(numbers, np.float64),
            "coefficients": fit.coefficients,
            "weights": fit.weights,
            "doubted": fit.doubted,
        }
        with contextlib.suppress(WriteFailed), replacing(self.path) as draft:
            try:
                save_file(arrays, draft, metadata={_SUM: self._sum(arrays)})
            except SafetensorError as error:  # its name for errors of the disk, too
                raise OSError(str(error)) from error

    def _sum(self, arrays: Mapping[str, NDArray[Any]]) -> str:
        """Hash what a fit was made from, and the fit."""
        digest = hashlib.sha256(self.key.encode())
        for name in sorted(arrays):
            digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
            digest.update(np.ascontiguousarray(arrays[name]).data)
        return digest.hexdigest()
