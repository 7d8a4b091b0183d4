import hashlib
import json

import numpy as np
from PIL import Image

from tests.benchmarks.clutter import SceneSettings, compose
from training.starter.pictures import Picture


def test_the_scenes_that_figures_are_measured_on_stay_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(5):
        pixels = rng.integers(0, 255, (30 + 9 * number, 50, 4), dtype=np.uint8)
        pixels[:5, :, 3] = 0
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        pictures.append(Picture(tmp_path / f"{number}.png", f"n{number}"))
    Image.fromarray(rng.integers(0, 255, (90, 140, 3), dtype=np.uint8)).save(tmp_path / "ground.png")
    scenes = compose(pictures, [tmp_path / "ground.png"], 6, seed=3, settings=SceneSettings(size=120))
    boxes = json.dumps([(scene.names, scene.boxes_xyxy) for scene in scenes])
    digest = hashlib.sha256(boxes.encode() + b"".join(scene.image.tobytes() for scene in scenes)).hexdigest()
    assert digest == "80f8a4f68c8f20bfa9160579c177b94a7396314bc10f248a5384d6f3d493d05d"
