"""Outputs of a frozen image tower for every sample: computed once, then read in every epoch instead of the images.

    FOLDER/KEY/meta.json        shape of the tokens
    FOLDER/KEY/tokens.npy       (N, T, C) float16
    FOLDER/KEY/image.npy        (N, D) float32, if the tower has image vectors; pooled.npy (N, C) likewise
    FOLDER/KEY/lines.jsonl      one line per sample: texts and boxes in the frame of the model input, or the fault
    FOLDER/KEY/spans.npy        (N + 1) int64, where each line starts

The key is a hash over the tower with its preprocessing, the data files and the data settings. The images of a manifest
are not hashed: an image replaced under its old name is not noticed. A cache is written to a draft folder and renamed
when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.towers import TowerOutput
from training.data.augment import Augmented, augment
from training.data.batch import Sample
from training.data.loader import DataSettings, Pictures, draw_descriptions
from training.data.record import BadSample, Rejects
from training.data.sources import Source
from training.errors import TrainingError

_VERSION = 1
_BATCH = 64  # pictures in one forward pass of the tower
_NO_PIXELS = np.zeros((3, 0, 0), dtype=np.uint8)


class TokenCache:
    """The samples of a cache, as `training.data.loader.Samples`."""

    def __init__(self, folder: Path, max_descriptions: int) -> None:
        """Open a complete cache.

        Args:
            folder: of this cache, named by its key.
            max_descriptions: descriptions used per box; if it has more, some are drawn anew for every sample.
        """
        self._folder, self._max_descriptions = folder, max_descriptions
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self._grid_hw = int(meta["grid_hw"][0]), int(meta["grid_hw"][1])
        self._arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r")
            for name in ("tokens", "image", "pooled", "spans")
            if (folder / f"{name}.npy").is_file()
        }

    def __reduce__(self) -> tuple[type[TokenCache], tuple[Path, int]]:
        """Let another process map the files again instead of receiving their content."""
        return TokenCache, (self._folder, self._max_descriptions)

    def __len__(self) -> int:
        """Count the samples, good and bad."""
        return len(self._arrays["spans"]) - 1

    def make(self, row: int, rng: np.random.Generator, rejects: Rejects) -> Sample:
        """Make a sample without pixels; see `training.data.loader.Samples.make`."""
        line = self._line(row)
        rejects.parts.update(line["parts"])
        if "bad" in line:
            raise BadSample(line["bad"])
        caption = line["captions"][int(rng.integers(len(line["captions"])))]
        boxes_cxcywh = np.array(line["boxes_cxcywh"], dtype=np.float32).reshape(-1, 4)
        descriptions = draw_descriptions(line["descriptions"], self._max_descriptions, rng)
        cached = TowerOutput(
            self._row("tokens", row), self._grid_hw, self._optional_row("image", row), self._optional_row("pooled", row)
        )
        return Sample(line["key"], Augmented(_NO_PIXELS, caption, boxes_cxcywh, descriptions), rejects, cached)

    def _line(self, row: int) -> dict[str, Any]:
        start, end = self._arrays["spans"][row : row + 2].tolist()
        with (self._folder / "lines.jsonl").open("rb") as stream:
            stream.seek(start)
            line: dict[str, Any] = json.loads(stream.read(end - start))
        return line

    def _row(self, name: str, row: int) -> Tensor:
        return torch.from_numpy(np.array(self._arrays[name][row : row + 1]))

    def _optional_row(self, name: str, row: int) -> Tensor | None:
        return self._row(name, row) if name in self._arrays else None


def cache_key(tower: str, paths: Sequence[Path], settings: DataSettings, *, dense: bool) -> str:
    """Return the name of a cache: a hash over everything its content depends on.

    Args:
        tower: fingerprint of the towers, which covers the preprocessing.
        paths: the data, as `open_sources` takes it; files count by path, size and modification time.
        settings: of the samples.
        dense: whether the tokens are those that are projected into the joint space.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.tar")) if path.is_dir() else [path])]
    identity = {
        "version": _VERSION,
        "tower": tower,
        "dense": dense,
        "files": [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "settings": settings.model_dump(mode="json", exclude={"max_bad_share", "blocks_at_once", "max_descriptions"}),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def fill_cache(
    folder: Path,
    source: Source,
    settings: DataSettings,
    preprocessing: Preprocessing,
    run_tower: Callable[[Tensor], TowerOutput],
    *,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Compute a cache, unless it exists. Only one process may do so at a time.

    Args:
        folder: of this cache, named by its key.
        source: the samples.
        settings: without crops and mirror images.
        preprocessing: of the encoder.
        run_tower: the image tower, from (B, 3, H, W) uint8 pixels to the outputs that are cached.
        workers: processes that decode images.
        progress: called with the number of samples done since the last call.

    Raises:
        TrainingError: the disk is full or fails, the tokens do not fit float16, or every sample is bad.
    """
    if folder.is_dir():
        return
    draft = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        with (draft / "lines.jsonl").open("wb") as lines:
            writer = _Writer(draft, lines, len(source))
            for prepared in _prepare(source, settings, preprocessing, workers):
                writer.add(prepared, run_tower)
                if progress is not None:
                    progress(len(prepared))
        writer.finish()
        os.replace(draft, folder)
    except OSError as error:
        raise TrainingError(f"the token cache {folder} cannot be written: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One row of the source: its line in the cache, and its (3, H, W) pixels unless it is bad."""

    line: Mapping[str, Any]
    pixels: NDArray[np.uint8] | None


class _Preparation(Dataset[_Prepared]):
    """Rows of a source, prepared for a cache."""

    def __init__(self, source: Source, settings: DataSettings, preprocessing: Preprocessing) -> None:
        self._pictures = Pictures(source, settings, preprocessing)
        self._settings, self._preprocessing = settings.augment, preprocessing

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, row: int) -> _Prepared:
        rejects = Rejects()
        try:
            key, decoded, record = self._pictures.read(row, rejects)
        except BadSample as fault:
            return _Prepared({"bad": fault.reason, "parts": dict(rejects.parts)}, None)
        shown = augment(
            decoded.image,
            decoded.displayed_size_hw,
            record,
            record.captions[0],
            self._settings,
            self._preprocessing,
            np.random.default_rng(0),  # decides nothing: there are no crops and mirror images
        )
        line = {
            "key": key,
            "captions": list(record.captions),
            "boxes_cxcywh": shown.boxes_cxcywh.tolist(),
            "descriptions": [list(texts) for texts in shown.descriptions],
            "parts": dict(rejects.parts),
        }
        return _Prepared(line, shown.pixels)


def _prepare(
    source: Source, settings: DataSettings, preprocessing: Preprocessing, workers: int
) -> Iterator[list[_Prepared]]:
    loader: DataLoader[Any] = DataLoader(
        _Preparation(source, settings, preprocessing),
        batch_size=_BATCH,
        num_workers=workers,
        collate_fn=list,
        generator=torch.Generator(),  # the default would draw from the random numbers of the run
    )
    yield from loader


class _Writer:
    """Writes the rows of a cache in order."""

    def __init__(self, folder: Path, lines: IO[bytes], rows: int) -> None:
        self._folder, self._lines, self._rows, self._done = folder, lines, rows, 0
        self._arrays: dict[str, NDArray[np.floating]] = {}
        self._spans = np.zeros(rows + 1, dtype=np.int64)
        self._grid_hw: tuple[int, int] | None = None

    def add(self, prepared: Sequence[_Prepared], run_tower: Callable[[Tensor], TowerOutput]) -> None:
        good = [position for position, one in enumerate(prepared) if one.pixels is not None]
        if good:
            pixels = np.stack([one.pixels for one in prepared if one.pixels is not None])
            with torch.no_grad():
                outputs = run_tower(torch.from_numpy(pixels))
            self._write_outputs(np.array(good) + self._done, outputs)
        for one in prepared:
            self._lines.write(json.dumps(one.line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
            self._done += 1
            self._spans[self._done] = self._lines.tell()

    def finish(self) -> None:
        if self._grid_hw is None:
            raise TrainingError("not one sample of the data can be used; no token cache was written")
        for array in self._arrays.values():
            array.flush()  # type: ignore[attr-defined]
        np.save(self._folder / "spans.npy", self._spans)
        (self._folder / "meta.json").write_text(json.dumps({"grid_hw": self._grid_hw}), encoding="utf-8")

    def _write_outputs(self, rows: NDArray[np.int64], outputs: TowerOutput) -> None:
        tensors = {"tokens": outputs.tokens.half(), "image": outputs.image, "pooled": outputs.pooled}
        values = {name: value.cpu().numpy() for name, value in tensors.items() if value is not None}
        if not np.isfinite(values["tokens"]).all():
            raise TrainingError("the tokens of this tower do not fit float16; leave data.cache out")
        if self._grid_hw is None:
            self._grid_hw = outputs.grid_hw
            self._make_arrays(values)
        for name, value in values.items():
            self._arrays[name][rows] = value

    def _make_arrays(self, values: Mapping[str, NDArray[np.floating]]) -> None:
        needed = sum(self._rows * value[0].nbytes for value in values.values())
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise TrainingError(
                f"the token cache needs {needed / 1e9:.1f} GB and {self._folder.parent} has {free / 1e9:.1f} GB; "
                f"choose another data.cache or leave it out"
            )
        for name, value in values.items():
            self._arrays[name] = np.lib.format.open_memmap(
                self._folder / f"{name}.npy", mode="w+", dtype=value.dtype, shape=(self._rows, *value.shape[1:])
            )
