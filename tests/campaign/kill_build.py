"""Kill builds of a memory at random moments, resume them, and compare with one that was never disturbed.

    python tests/campaign/kill_build.py --kills 30

Each kill is a SIGKILL. After it the memory must be the old one or none, the build goes on, and in the end the export
with all vectors must have the same bytes as that of an undisturbed build; no text of a finished chunk is encoded twice.
"""

import argparse
import io
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from memory import Category, Description, Memory, MemoryNotFound  # noqa: E402
from tests.campaign.conclusion import conclude  # noqa: E402
from tests.memory.fake_encoder import FakeEncoder  # noqa: E402

TEMPLATES = ("a photo of a {}.", "a drawing of a {}.")
CHUNK_TEXTS = 64
CHUNK_SECONDS = 0.02
KILLS_PER_GENERATION = 3


class SlowEncoder(FakeEncoder):
    """Takes time for each chunk and writes down every text it encodes."""

    def __init__(self, log):
        super().__init__()
        self._log = log

    def encode_texts(self, texts):
        time.sleep(CHUNK_SECONDS)
        rows = super().encode_texts(texts)
        with open(self._log, "a", encoding="utf-8") as log:
            log.writelines(f"{text}\n" for text in texts)
        return rows


def categories_of(generation):
    """Categories of a generation, which share the greater part of their texts with those of every other."""
    return [
        Category(f"thing {i}", descriptions=(Description(f"part {i % 40}"), Description(f"colour {i} {generation}")))
        for i in range(150)
    ]


def build(directory, log, generation):
    import memory.encode

    memory.encode.CHUNK_TEXTS = CHUNK_TEXTS
    return Memory.build(categories_of(generation), directory, encoder=SlowEncoder(log), templates=TEMPLATES)


def export(directory):
    """Return all that a memory holds; None where there is none."""
    stream = io.StringIO()
    try:
        Memory.open(directory).export(stream, vectors=True)
    except MemoryNotFound:
        return None
    return stream.getvalue()


def run_killed(directory, log, generation, seconds):
    """Start a build in another process, kill it after some time; says whether it was still running."""
    command = [sys.executable, __file__, "--child", str(directory), str(log), str(generation)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    child.stdout.readline()
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    return child.wait() == -signal.SIGKILL


def survive(directory, kills, seed):
    """Kill and resume builds, three kills for each generation; returns what happened, raises if anything is lost."""
    generator = random.Random(seed)
    killed_log, memory = directory / "killed.log", directory / "memory"
    state, wanted, seconds, in_time = None, None, 0.0, 0
    for number in range(kills):
        generation = number // KILLS_PER_GENERATION
        if number % KILLS_PER_GENERATION == 0:
            wanted, seconds = undisturbed(directory, generation)
        in_time += run_killed(memory, killed_log, generation, generator.uniform(0.0, seconds))
        found = export(memory)
        if found not in (state, wanted):
            raise RuntimeError(f"kill {number} (seed {seed}) left a memory that is neither the old nor the new one")
        state = found
    build(memory, killed_log, (kills - 1) // KILLS_PER_GENERATION)
    if export(memory) != wanted:
        raise RuntimeError(f"the resumed memory differs from the undisturbed one (seed {seed})")
    texts = killed_log.read_text(encoding="utf-8").splitlines()
    again = len(texts) - len(set(texts))
    if again > in_time * CHUNK_TEXTS:
        raise RuntimeError(f"{again} texts were encoded twice; at most the chunk in flight may be (seed {seed})")
    return {"kills": kills, "killed while running": in_time, "texts": len(set(texts)), "texts encoded twice": again}


def undisturbed(directory, generation):
    """Build a generation without a kill; returns its export and how many seconds it took."""
    started = time.monotonic()
    build(directory / "undisturbed", directory / "undisturbed.log", generation)
    return export(directory / "undisturbed"), time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=3, metavar=("DIRECTORY", "LOG", "GENERATION"))
    options = parser.parse_args()
    if options.child:
        import lancedb  # noqa: F401 - a second that kills should not fall into

        print("ready", flush=True)
        build(Path(options.child[0]), Path(options.child[1]), int(options.child[2]))
        return
    with tempfile.TemporaryDirectory() as directory:
        for name, value in survive(Path(directory), options.kills, options.seed).items():
            print(f"{name}: {value}")
    conclude(options.kills, options.kills, "kills of builds")


if __name__ == "__main__":
    main()
