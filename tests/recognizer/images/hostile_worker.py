"""A worker whose decoder does to some images what no real file does every time; the file's name says what."""

import json
import os
import signal
import struct
import time
from pathlib import Path

from recognizer.images import worker

decode_image = worker.decode_image


def reply(data):
    """Write into the pipe to the parent, which is one of these."""
    for descriptor in range(3, 10):
        try:
            os.write(descriptor, data)
        except OSError:
            continue
    time.sleep(600)


def misbehave(path, **options):
    file = Path(os.fsdecode(path))
    with open(file.parent / "attempts", "a") as attempts:
        attempts.write(f"{file.stem} {os.getpid()}\n")
    match file.stem:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case "raise":
            raise KeyError(file.stem)
        case "hang":
            time.sleep(600)
        case "spin":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
            while True:
                pass
        case "print":
            os.write(1, b"words of a library" * 100_000)
            os.write(2, b"words of a library" * 100_000)
        case "nonsense":
            reply(b"\xff" * 12)
        case "negative" | "longer":
            side, more = (-8, 0) if file.stem == "negative" else (8, 1)
            text = json.dumps({"size_wh": [side, side], "displayed_size_hw": [8, 8], "sha256": "", "format": "PNG"})
            reply(struct.pack("<IQ", len(text), 3 * 8 * 8 + more) + text.encode() + bytes(3 * 8 * 8 + more))
        case "weak":  # an image that meets a worker which another one has spoilt
            if (file.parent / "attempts").read_text().count("weak") == 1:
                os._exit(1)
    return decode_image(path, **options)


worker.decode_image = misbehave
worker.main()
