"""Encoding on a CPU by the size of a pass, with and without glibc keeping the memory of a pass.

usage: python tests/benchmarks/passes.py [--model ViT-B-32 --pretrained random] [--precision fp32] [--images 64]

Each row is a process of its own, whose encoder reads one batch before the clock starts; the fastest of three batches
counts. "together" is one pass over the whole batch, on which all cores work: how an encoder is usually called. Time of
the processor is that of the user and of the kernel, which zeroes the pages that the process asks for.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch

from recognizer import Encoder
from recognizer.allocator import keep_freed_memory
from recognizer.console import table
from recognizer.encoder import Frame, passes

TOGETHER = 0
VARIANTS = [(TOGETHER, False), (TOGETHER, True), *((size, True) for size in (1, 2, 4, 8)), (passes.PASS_SIZE, False)]
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--pretrained")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--variant", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant is not None:
        print(*measure(arguments, *VARIANTS[arguments.variant]))
        return
    rows = []
    for number, (size, keep) in enumerate(VARIANTS):
        command = [sys.executable, __file__, *sys.argv[1:], "--variant", str(number)]
        numbers = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        rows.append([str(size or "together"), "yes" if keep else "no", *numbers])
    print(table(["images a pass", "memory kept", "images/s", "user ms/image", "kernel ms/image", "peak MiB"], rows))


def measure(arguments: argparse.Namespace, size: int, keep: bool) -> list[str]:
    """Return images per second, user and kernel time per image, and the largest resident set."""
    if keep and not keep_freed_memory():
        sys.exit("the C library cannot be told to keep memory, or MALLOC_ variables are set")
    if size == TOGETHER:
        passes.Passes.encode = lambda _self, forward, pixels, frames: passes.forward_pass(forward, pixels, frames)
    else:
        passes.PASS_SIZE = size
    encoder = Encoder.load(arguments.model, arguments.pretrained, device="cpu", precision=arguments.precision)
    height, width = encoder.input_size_hw
    pixels = torch.randint(0, 256, (BATCH, 3, height, width), dtype=torch.uint8)
    frames = [Frame((height, width), (0.0, 0.0), (1.0, 1.0))] * BATCH
    measured = []
    for _ in range(4):
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        encoder.encode_pixels(pixels, frames)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        measured.append((seconds, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime))
    seconds, user, kernel = min(measured[1:])
    return [
        f"{BATCH / seconds:.1f}",
        f"{1000 * user / BATCH:.1f}",
        f"{1000 * kernel / BATCH:.1f}",
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}",
    ]


if __name__ == "__main__":
    main()
