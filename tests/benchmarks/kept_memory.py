"""CPU time, page faults and memory of encoding, with and without glibc keeping the memory of a pass.

usage: python tests/benchmarks/kept_memory.py [--model ViT-B-32 --pretrained random] [--precision fp32] [--images 32]

Each row is a process of one thread, whose encoder reads two images before the clock starts. CPU time
is that of the user and of the kernel, which zeroes the pages that the process asks for.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import torch

from recognizer import Encoder
from recognizer.allocator import keep_freed_memory
from recognizer.console import table
from recognizer.encoder import Frame

VARIANTS = (False, True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--pretrained")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--variant", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant is not None:
        print(*measure(arguments, VARIANTS[arguments.variant]))
        return
    rows = []
    for number, keep in enumerate(VARIANTS):
        command = [sys.executable, __file__, *sys.argv[1:], "--variant", str(number)]
        numbers = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        rows.append(["yes" if keep else "no", *numbers])
    print(table(["memory kept", "user ms/image", "kernel ms/image", "faults/image", "MiB"], rows))


def measure(arguments: argparse.Namespace, keep: bool) -> list[str]:
    """Return user and kernel time and page faults per image, and the largest resident set."""
    torch.set_num_threads(1)
    if keep and not keep_freed_memory():
        sys.exit("the C library cannot be told to keep memory, or MALLOC_ variables are set")
    encoder = Encoder.load(arguments.model, arguments.pretrained, device="cpu", precision=arguments.precision)
    height, width = encoder.input_size_hw
    count = arguments.images
    pixels = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)
    frames = [Frame((height, width), (0.0, 0.0), (1.0, 1.0))] * count
    encoder.encode_pixels(pixels[:2], frames[:2])
    before = resource.getrusage(resource.RUSAGE_SELF)
    encoder.encode_pixels(pixels, frames)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return [
        f"{1000 * (after.ru_utime - before.ru_utime) / count:.1f}",
        f"{1000 * (after.ru_stime - before.ru_stime) / count:.1f}",
        f"{(after.ru_minflt - before.ru_minflt) / count:.0f}",
        f"{after.ru_maxrss / 1024:.0f}",
    ]


if __name__ == "__main__":
    main()
