"""Images per second of the starter encoder on torch and on onnxruntime, in turns, on one CPU.

    recognizer export-onnx --model starter --output starter.onnx
    python tests/benchmarks/onnx_runs.py starter.onnx

Processor seconds are those of all threads: on a busy machine they say more than the clock.
"""

import sys
import time
from pathlib import Path
from statistics import median

import torch

from recognizer import Encoder
from recognizer.demo import DATA
from recognizer.images import load_source

IMAGES, ROUNDS = 32, 7


def main(folder: Path) -> None:
    encoders = {
        "torch fp32": Encoder.load(device="cpu", precision="fp32"),
        "torch bf16": Encoder.load(device="cpu", precision="bf16"),
        "onnxruntime fp32": Encoder.load(onnx=folder),
    }
    photos = sorted((DATA / "photos").glob("*.jpg"))
    files = [photos[number % len(photos)] for number in range(IMAGES)]
    prepared = [encoders["torch fp32"].preprocess(load_source(file).image) for file in files]
    pixels, frames = torch.stack([each for each, _ in prepared]), [frame for _, frame in prepared]
    rates = {name: ([], []) for name in encoders}
    for turn in range(ROUNDS + 1):
        for name, encoder in encoders.items():
            clock, processor = time.perf_counter(), time.process_time()
            encoder.encode_pixels(pixels, frames)
            if turn:  # the first one warms up
                rates[name][0].append(IMAGES / (time.perf_counter() - clock))
                rates[name][1].append(IMAGES / (time.process_time() - processor))
    print(f"{torch.get_num_threads()} threads, medians of {ROUNDS} rounds of {IMAGES} images")
    for name, (clock, processor) in rates.items():
        print(f"{name:18}{median(clock):7.1f} images/s{median(processor):7.1f} images per processor second")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
