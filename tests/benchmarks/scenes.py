"""How fast grounded scenes are composed, encoded and written, and how fast they are read back as training batches.

usage: python tests/benchmarks/scenes.py PICTURES [--count 600] [--sets stamps qabcs]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills. One process, figures per second of its CPU
time, so that what else the machine does is left out. The first figure includes reading each cut-out for the first time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from recognizer.console import table
from recognizer.encoder.preprocessing import Preprocessing
from training.data.augment import AugmentSettings
from training.data.loader import DataSettings, Loader, Pictures
from training.data.shards import Shards, write_shards
from training.starter.scene_shards import SETS, load_pictures, make_composer, scene_samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    composer = make_composer(arguments.pictures, load_pictures(arguments.pictures, arguments.sets), seed=0)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for label in ("written to shards, pictures read first", "written to shards, pictures in memory"):
            start = time.process_time()
            paths = write_shards(scene_samples(composer, arguments.count), Path(folder))
            rows.append([label, f"{arguments.count / (time.process_time() - start):.0f}"])
        settings = DataSettings(augment=AugmentSettings(crop_scale=(0.5, 1), flip=0.5))
        source = Shards(paths)
        preprocessing = Preprocessing((224, 224), "letterbox", (0.5,) * 3, (0.5,) * 3)
        loader = Loader(source, Pictures(source, settings, preprocessing), settings, batch_size=32, seed=0)
        start = time.process_time()
        count = sum(len(batch) for batch in loader)
        rows.append(["read, cropped, mirrored, batched", f"{count / (time.process_time() - start):.0f}"])
        kilobytes = sum(path.stat().st_size for path in paths) / arguments.count / 1024
    print(table(["scenes of 224 pixels", "per second and core"], rows))
    print(f"{kilobytes:.1f} KiB a scene")


if __name__ == "__main__":
    main()
