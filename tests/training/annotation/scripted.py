"""Pictures, an MLLM and a detector that answer by a script, and a log of what they were asked."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
from PIL import Image

from recognizer.settings import RerankSettings
from tests.rerank.scripted import ScriptedMllm
from training.annotation.annotate import AnnotationSettings
from training.annotation.detector import Found
from training.annotation.gates import Gates

FEATURES = ["long curved beak", "red tail", "the long, curved beak.", "white wing"]


def write_pictures(folder: Path, count: int) -> Path:
    """Save pictures of 40 x 30 pixels whose grey value is their number."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        Image.fromarray(np.full((30, 40, 3), number, np.uint8)).save(folder / f"{number:03}.png")
    return folder


def number_of(image: Image.Image) -> int:
    return image.getpixel((0, 0))[0]


def answer(request) -> str:
    """Caption, name and describe a picture of `write_pictures`."""
    number = number_of(request.image)
    if "caption" in request.text:
        return json.dumps({"caption": f"Picture {number}."})
    if "primary subject" in request.text:
        return json.dumps({"subject": f"bird {number}"})
    assert f"this bird {number} " in request.text
    return json.dumps({"descriptions": FEATURES})


class Log:
    """What was asked, one line per batch in a file, so that it survives a kill."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def add(self, what: list[str]) -> None:
        with open(self.path, "a") as stream:
            stream.write(json.dumps(what) + "\n")

    def batches(self) -> list[list[str]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


class Death:
    """Kills this process at some call of a model, before or after it has answered."""

    def __init__(self, call: int, *, after: bool) -> None:
        self.left, self.after = call, after

    def may_come(self, *, after: bool) -> None:
        if after != self.after:
            return
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


NEVER = Death(10**9, after=False)


class LoggedMllm(ScriptedMllm):
    """A scripted MLLM that logs its batches."""

    def __init__(self, log: Log, death: Death = NEVER, write_one=answer) -> None:
        super().__init__(None, write_one, parallel=2)
        self.log, self.death = log, death

    def write(self, requests):
        self.death.may_come(after=False)
        self.log.add([f"{number_of(request.image)} {request.text}" for request in requests])
        answers = super().write(requests)
        self.death.may_come(after=True)
        return answers


class LoggedDetector:
    """Finds each description in a box that its number and its length give."""

    name = identity = "logged"
    input_size_hw = None

    def __init__(self, log: Log, death: Death = NEVER, found=None) -> None:
        self.log, self.death, self._found = log, death, found

    def shortened(self, descriptions):
        return [" ".join(text.split()[:3]) for text in descriptions]

    def prepare(self, item, decoded):
        return decoded.image

    def detect(self, prepared, descriptions, threshold):
        self.death.may_come(after=False)
        self.log.add([f"{number_of(image)} {texts}" for image, texts in zip(prepared, descriptions, strict=True)])
        found = [
            [self._one(image, text) for text in texts] for image, texts in zip(prepared, descriptions, strict=True)
        ]
        self.death.may_come(after=True)
        return found

    def _one(self, image, text):
        if self._found is not None:
            return self._found(image, text)
        number, length = number_of(image), len(text)
        box = [[number % 20, length, number % 20 + 15.25, length + 10]]
        return Found(np.array(box, np.float32), np.array([1 - length / 100], np.float32))


def settings(**changes) -> AnnotationSettings:
    """Small batches, and no gates unless they are named."""
    gates = Gates(**{name: changes.pop(name) for name in ("max_overlap", "max_area") if name in changes})
    base = {"detector": "mask", "mllm": RerankSettings(model="scripted"), "detector_batch": 3, "workers": 1}
    return AnnotationSettings(**{**base, "gates": gates, **changes})
