"""CPU time, page faults and memory of encoding: one image in a pass or many, with and without glibc keeping memory.

usage: python tests/benchmarks/passes.py [--model ViT-B-32 --pretrained random] [--precision fp32] [--images 32]

Each row is a process of one thread, whose encoder reads the same random pixels twice before the clock starts. CPU time
is that of the user and of the kernel, which zeroes the pages that the process asks for. A pass of more than one image
does not give the same bytes in every batch, so the first two rows are for comparison only.
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

MANY = 32
VARIANTS = [(MANY, False), (MANY, True), (1, False), (1, True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--pretrained")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--images", type=int, default=MANY)
    parser.add_argument("--variant", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant is not None:
        print(*measure(arguments, *VARIANTS[arguments.variant]))
        return
    rows = []
    for number, (size, keep) in enumerate(VARIANTS):
        command = [sys.executable, __file__, *sys.argv[1:], "--variant", str(number)]
        numbers = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        rows.append([str(size), "yes" if keep else "no", *numbers])
    print(table(["images in a pass", "memory kept", "user ms/image", "kernel ms/image", "faults/image", "MiB"], rows))


def measure(arguments: argparse.Namespace, size: int, keep: bool) -> list[str]:
    """Return user and kernel time and page faults per image, and the largest resident set."""
    torch.set_num_threads(1)
    if keep and not keep_freed_memory():
        sys.exit("the C library cannot be told to keep memory, or MALLOC_ variables are set")
    encoder = Encoder.load(arguments.model, arguments.pretrained, device="cpu", precision=arguments.precision)
    height, width = encoder.input_size_hw
    pixels = torch.randint(0, 256, (size, 3, height, width), dtype=torch.uint8)
    frames = [Frame((height, width), (0.0, 0.0), (1.0, 1.0))] * size
    passes = max(1, arguments.images // size)
    # The public method splits the batch on a CPU; the pass below it is what is compared.
    with torch.inference_mode():
        for _ in range(2):
            encoder._forward(pixels, frames)
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(passes):
            encoder._forward(pixels, frames)
        after = resource.getrusage(resource.RUSAGE_SELF)
    count = passes * size
    return [
        f"{1000 * (after.ru_utime - before.ru_utime) / count:.1f}",
        f"{1000 * (after.ru_stime - before.ru_stime) / count:.1f}",
        f"{(after.ru_minflt - before.ru_minflt) / count:.0f}",
        f"{after.ru_maxrss / 1024:.0f}",
    ]


if __name__ == "__main__":
    main()
