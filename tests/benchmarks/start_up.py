"""Seconds of short commands, against what they cannot do without.

usage: python tests/benchmarks/start_up.py [--rounds 5]

`info` against importing NumPy; `why` and a `run` of one image with the starter against importing torch, reading the
weights and one forward pass. Then `run` of one image with a ViT-B/32 of open_clip from a file of random weights, in
fp32, against a plain script of open_clip that names the image by the same labels, and against importing open_clip,
reading the weights and one forward pass. The commands take turns; medians count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import open_clip
from safetensors.torch import save_file

from recognizer.console import table
from recognizer.demo import DATA
from tests.benchmarks.comparison import Comparison, add_json_option, hand_over, in_turns

LEAST = """
import torch
from safetensors.torch import load_file
from recognizer.encoder.starter.starter import GROUNDED_FILE, load_classifier
from recognizer.encoder.starter.weights import CLASSES_FILE, starter_text_folder
classifier = load_classifier()
for path in (starter_text_folder() / "model.safetensors", GROUNDED_FILE, CLASSES_FILE):
    load_file(path)
with torch.inference_mode():
    classifier(torch.zeros(1, 3, 320, 320))
    classifier(torch.zeros(1, 3, 224, 224))
"""
SCRIPT = """
import sys
import open_clip, torch
from PIL import Image
weights, photo, *names = sys.argv[1:]
model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained=weights)
model.eval()
tokenizer = open_clip.get_tokenizer("ViT-B-32")
classifier = open_clip.build_zero_shot_classifier(model, tokenizer, names, ["a photo of a {}."])
with torch.inference_mode():
    vector = model.encode_image(transform(Image.open(photo).convert("RGB"))[None], normalize=True)
    shares, best = (100 * vector @ classifier)[0].softmax(dim=0).topk(5)
print([(names[column], share) for column, share in zip(best.tolist(), shares.tolist())])
"""
LEAST_OF_OPEN_CLIP = """
import sys
import open_clip, torch
model = open_clip.create_model("ViT-B-32", pretrained=sys.argv[1])
with torch.inference_mode():
    model.encode_image(torch.zeros(1, 3, 224, 224))
"""
OURS, PEER, BOUND = "recognizer run, one image, ViT-B-32", "open_clip script, one image", "open_clip, weights, one pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args()
    recognizer = [sys.executable, "-m", "recognizer"]
    with tempfile.TemporaryDirectory() as name:
        folder, photo = Path(name), str(DATA / "photos" / "coffee.jpg")
        memory = ["--memory", str(folder / "memory")]
        build = [*recognizer, "build", str(DATA / "labels.json"), *memory, "--model", "starter"]
        subprocess.run(build, check=True, capture_output=True)
        output = ["--output", str(folder / "rows.jsonl"), "--overwrite"]
        names = list(json.loads((DATA / "labels.json").read_text()))
        (folder / "names.txt").write_text("\n".join(names))
        weights, vit = str(folder / "weights.safetensors"), ["--memory", str(folder / "vit")]
        save_file(open_clip.create_model("ViT-B-32").state_dict(), weights)
        model = ["--model", "ViT-B-32", "--pretrained", weights, "--precision", "fp32"]
        build = [*recognizer, "build", str(folder / "names.txt"), *vit, *model]
        subprocess.run(build, check=True, capture_output=True)
        commands = {
            "import numpy": [sys.executable, "-c", "import numpy"],
            "recognizer --help": [*recognizer, "--help"],
            "recognizer info": [*recognizer, "info", *memory],
            "torch, weights, one pass": [sys.executable, "-c", LEAST],
            "recognizer why": [*recognizer, "why", photo, *memory, "--output", str(folder / "why.jpg")],
            "recognizer run, one image": [*recognizer, "run", photo, *memory, *output],
            BOUND: [sys.executable, "-c", LEAST_OF_OPEN_CLIP, weights],
            PEER: [sys.executable, "-c", SCRIPT, weights, photo, *names],
            OURS: [*recognizer, "run", photo, *vit, *output, "--precision", "fp32"],
        }
        ways = {
            what: partial(subprocess.run, command, check=True, capture_output=True)
            for what, command in commands.items()
        }
        # The first round fills the page cache.
        medians = {what: times.wall for what, times in in_turns(ways, options.rounds).items()}
    least = {"recognizer info": "import numpy"} | dict.fromkeys(
        ("recognizer why", "recognizer run, one image"), "torch, weights, one pass"
    )
    least |= dict.fromkeys((PEER, OURS), BOUND)
    rows = [
        [what, f"{median:.2f}", f"{median / medians[least[what]]:.2f}" if what in least else ""]
        for what, median in medians.items()
    ]
    print(table(["command", "seconds", "times the least"], rows))
    hand_over(
        options.json,
        [
            Comparison(
                f"cold start to the first answer, ViT-B-32, {len(names)} names",
                "s",
                medians[OURS],
                medians[PEER],
                medians[BOUND],
                peer_is="plain open_clip script",
                bound_is="import open_clip, read the weights, one pass",
            ),
            Comparison(
                "cold start to the first answer, starter",
                "s",
                medians["recognizer run, one image"],
                bound=medians["torch, weights, one pass"],
                bound_is="import torch, read the weights, one pass",
            ),
        ],
    )


if __name__ == "__main__":
    main()
