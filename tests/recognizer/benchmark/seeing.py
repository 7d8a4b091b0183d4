"""A bench whose encoder sees what the name of a file says: image vectors are made of text vectors."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from recognizer.benchmark.bench import Bench
from recognizer.encoder import ImageFeatures
from recognizer.evaluation.encode import LabelledBatch
from recognizer.settings import Settings
from tests.memory.fake_encoder import FakeEncoder

TEMPLATES = ("a photo of a {}.",)


class SeeingBench(Bench):
    """An image `shown+other.png` (with a number behind) has the mean vector of the names `shown` and `other`."""

    def __init__(self, settings=None, dim=64):
        encoder = FakeEncoder(dim=dim)
        encoder.dim, encoder.default_templates, encoder.default_temperature = dim, TEMPLATES, 0.1
        super().__init__(encoder, settings or Settings())

    def encode(self, items, labels, what):
        for start in range(0, len(items), 3):
            part = items[start : start + 3]
            vectors = np.stack([self.seen(Path(item.key).stem) for item in part])
            yield LabelledBatch(
                items=part,
                rows=np.array(labels[start : start + 3], np.int64),
                features=ImageFeatures(
                    image=vectors,
                    regions=vectors[:, None],
                    boxes_xyxy=np.zeros((len(part), 1, 4), np.float32),
                    region_weight=np.ones((len(part), 1), np.float32),
                    region_area=np.zeros((len(part), 1), np.float32),
                ),
                hashes=[hashlib.sha256(Path(item.path.decode()).read_bytes()).hexdigest() for item in part],
            )

    def seen(self, stem):
        names = stem.rstrip("0123456789").split("+")
        vector = np.sum([self.encoder.vector(TEMPLATES[0].format(name)) for name in names], axis=0)
        return vector / np.linalg.norm(vector)


def pictures(folder, shown):
    """Write images, no two alike: label -> what each of its images shows."""
    for label, stems in shown.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number, stem in enumerate(stems):
            colour = tuple(hashlib.sha256(f"{folder}{label}{number}".encode()).digest()[:3])
            Image.new("RGB", (8, 8), colour).save(folder / label / f"{stem}{number}.png")
