"""The training data of a run: batches of pictures, or of cached outputs of a frozen image tower."""

from __future__ import annotations

from pathlib import Path

import torch

from recognizer.console import progress_bar
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.towers import TowerOutput
from training.config import TrainConfig
from training.data.loader import Loader, Pictures
from training.data.sources import Source, open_sources
from training.data.token_cache import TokenCache, cache_key, fill_cache
from training.distributed import rank, wait_for_all, world_size
from training.errors import DataError, TrainingError
from training.model import GroundedModel


def make_loader(
    config: TrainConfig, model: GroundedModel, preprocessing: Preprocessing, device: torch.device
) -> Loader:
    """Open the training data; all ranks call this, and rank 0 fills a missing token cache while the others wait.

    Args:
        config: names the data and the cache.
        model: its image tower fills the cache.
        preprocessing: of the encoder.
        device: where the model is.

    Raises:
        DataError: the data cannot be used.
        TrainingError: the cache cannot be written, or the model has no use for one.
    """
    data = config.data
    try:
        source = open_sources(data.train, limits=data.samples.limits)
    except DataError as error:
        raise DataError(f"{error}; data.train names the data, as in --set data.train=[PATH]") from error
    if data.cache is None:
        samples: Pictures | TokenCache = Pictures(source, data.samples, preprocessing)
    else:
        samples = _open_cache(data.cache, source, config, model, preprocessing, device)
    return Loader(
        source,
        samples,
        data.samples,
        batch_size=config.batch_size * config.accumulate,
        seed=config.seed,
        rank=rank(),
        ranks=world_size(),
        workers=data.workers,
        pin_memory=device.type == "cuda",
        tokenize=model.tokenize,
    )


def _open_cache(
    folder: Path,
    source: Source,
    config: TrainConfig,
    model: GroundedModel,
    preprocessing: Preprocessing,
    device: torch.device,
) -> TokenCache:
    if model.decoder is None:
        raise TrainingError("data.cache stores tokens for a decoder, but decoder is null; leave data.cache out")
    data, dense = config.data, model.decoder.settings.anchors is not None
    cache = folder / cache_key(model.tower_fingerprint, data.train, data.samples, dense=dense)

    def run_tower(pixels: torch.Tensor) -> TowerOutput:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.amp == "bf16"):
            return model.read_images(pixels.to(device))

    if rank() == 0 and not cache.is_dir():
        with progress_bar(len(source), "img", "cache tokens") as advance:
            fill_cache(cache, source, data.samples, preprocessing, run_tower, workers=data.workers, progress=advance)
    wait_for_all()
    return TokenCache(cache, data.samples.max_descriptions)
