"""What reranking costs and brings, with the tiny model that sees: one token against a list, `auto` against `always`.

usage: python tests/benchmarks/reranking.py [PICTURES] [--images 60]

First the same images are asked about by constrained choice and by a written list, side by side. Then `rotations: auto`
beside all rotations, on 400 images each of three kinds: pictures that the model knows, the same blurred, and pictures
whose name is not among the options, which leave it unsure. How often the first place differs is counted for the model's
own answer, and after the fusion with retrieval's confidences, which had the order wrong. Then, with PICTURES
(the folder that `training/starter/fetch_pictures.sh` fills), retrieval by the starter encoder and pictures that
the tiny model knows, changed versions of the ten photographs it was trained on, mixed with ones that it does not:
stamps whose names are ImageNet classes, of which retrieval is often sure. `calibrate` fits the margin and the weight on
one half; the table is about the other half. Last, `rerank_server.py`: throughput over a slow server, and 200 faults.
"""

from __future__ import annotations

import argparse
import csv
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from timm.data import ImageNetInfo

sys.path.insert(0, str(Path(__file__).parents[2]))

from memory import Memory, read_labels
from recognizer import Encoder, Recognizer
from recognizer.building import build_memory
from recognizer.calibration.calibrate import calibrate
from recognizer.calibration.rerank import fit_reranking
from recognizer.console import note, table
from recognizer.evaluation.labelled import read_labelled
from recognizer.settings import load_settings
from rerank.backends.transformers_local import TransformersLocal
from rerank.base import ANSWERED
from rerank.reranker import MllmReranker
from tests.rerank.seeing import answers, make_cases, right_share
from tests.rerank.tiny_mllm.pictures import FILES, MODEL, PHOTOS, augmented
from training.starter.pictures import on_white, stamps

VERSIONS_KNOWN, VERSIONS_UNKNOWN = 8, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=60)
    arguments = parser.parse_args()
    mllm = TransformersLocal(str(MODEL), device="cpu", dtype="float32", batch_size=16)
    print(one_token_against_a_list(mllm, arguments.images))
    print()
    print(auto_against_all_rotations(mllm, 400))
    if arguments.pictures is not None:
        print()
        print(auto_against_always(mllm, arguments.pictures))
    print(flush=True)
    subprocess.run([sys.executable, str(Path(__file__).with_name("rerank_server.py"))], check=True)


def one_token_against_a_list(mllm: TransformersLocal, images: int) -> str:
    """Ask about the same images in three ways, in turns, and report the best round of each."""
    cases = make_cases(images, swapped=False)
    ways = {
        "choice, 1 rotation": {"rotations": 1},
        "choice, auto rotations": {"rotations": "auto"},
        "choice, all 5 rotations": {},
        "written list": {"mode": "list"},
    }
    found: dict[str, tuple[float, MllmReranker, list[dict[str, object]]]] = {}
    for _ in range(3):
        for name, settings in ways.items():
            reranker = MllmReranker(mllm, **settings)
            started = time.perf_counter()
            answered = answers(reranker, cases)
            seconds = time.perf_counter() - started
            if name not in found or seconds < found[name][0]:
                found[name] = seconds, reranker, answered
    rows = []
    for name, (seconds, reranker, answered) in found.items():
        counts = reranker.counts
        unreadable = sum(number for status, number in counts.failed.items() if status.startswith("unreadable"))
        ranked = [case for case, answer in zip(cases, answered, strict=True) if answer["status"] in ANSWERED]
        rows.append(
            [
                name,
                f"{counts.requests / seconds:.1f}",
                f"{images / seconds:.1f}",
                f"{counts.generated_tokens / counts.requests:.1f}",
                f"{counts.generated_tokens / images:.1f}",
                str(unreadable),
                str(counts.mended),
                f"{right_share(cases, answered):.3f}" if ranked else "-",
            ]
        )
    heading = ["way", "requests/s", "images/s", "tokens/request", "tokens/image", "unreadable", "mended", "top-1"]
    return f"{images} images, 5 options, the truth never first\n{table(heading, rows)}"


def auto_against_all_rotations(mllm: TransformersLocal, images: int) -> str:
    """Count the requests of `auto`, and how often its first place is not that of all rotations."""
    known = make_cases(images, swapped=False, seed=1)
    kinds = {
        "known": known,
        "blurred": [
            replace(case, image=case.image.filter(ImageFilter.GaussianBlur(case.image.width / 16))) for case in known
        ],
        "name not among the options": make_cases(images, swapped=True, seed=2),
    }
    rows = []
    for kind, cases in kinds.items():
        every, auto = MllmReranker(mllm), MllmReranker(mllm, rotations="auto")
        pairs = list(zip(answers(every, cases), answers(auto, cases), strict=True))
        own = sum(np.argmax(a["answer"]) != np.argmax(b["answer"]) for a, b in pairs)
        fused = sum(a["order"][0] != b["order"][0] for a, b in pairs)
        rows.append([kind, f"{auto.counts.requests / images:.2f}", str(own), str(fused)])
    heading = ["pictures", "requests/image", "first place differs", "after the fusion"]
    return f"rotations: auto, {images} images of each kind, 5 options\n{table(heading, rows)}"


def auto_against_always(mllm: TransformersLocal, pictures: Path) -> str:
    """Calibrate margin and weight on one half of mixed pictures and report on the other."""
    with tempfile.TemporaryDirectory() as folder:
        labelled = mixed_pictures(Path(folder), pictures)
        encoder = Encoder.load("starter")
        build_memory(read_labels(Path(folder) / "labels.txt"), Path(folder) / "memory", encoder=encoder)
        memory = Memory.open(Path(folder) / "memory")
        settings = load_settings(overrides=["rerank.when=always", "rerank.model=tiny"])
        calibration = calibrate(Recognizer(encoder, memory, settings=settings), read_labelled(labelled))
        fitted = Recognizer(encoder, memory, settings=settings.model_copy(update={"score": calibration.score}))
        note("asking the tiny model about every picture ...")
        reranking = fit_reranking(fitted, calibration.fit, calibration.report, MllmReranker(mllm))
    calibration = replace(calibration, rerank=reranking)
    outcome = reranking.outcome
    assert outcome is not None
    rows = [
        ["retrieval", "0 %", f"{outcome.top1_before:.3f}", ""],
        ["always", "100 %", f"{outcome.top1_always:.3f}", "100 %"],
        ["auto", f"{outcome.asked_share:.0%}", f"{outcome.top1_auto:.3f}", f"{outcome.gain_share:.0%}"],
    ]
    title = (
        f"{outcome.images} pictures reported on; weight {reranking.weight:.2f}, margin {reranking.margin.margin:.3f}"
    )
    return f"{title}\n{table(['rerank', 'asked', 'top-1', 'share of the gain'], rows)}"


def mixed_pictures(folder: Path, pictures: Path, seed: int = 0) -> Path:
    """Write changed pictures, a label file of all their names, and a CSV of what each shows."""
    rng = random.Random(seed)
    shown: list[tuple[str, Image.Image]] = []
    for name, file in FILES.items():
        with Image.open(PHOTOS / file) as photo:
            upright = photo.convert("RGB")
        shown += [(name, augmented(upright, rng)) for _ in range(VERSIONS_KNOWN)]
    classes = ImageNetInfo()
    known_to_retrieval = {
        word.strip().lower() for row in range(1000) for word in classes.index_to_description(row).split(",")
    }
    for picture in stamps(pictures):
        if picture.name.lower() in known_to_retrieval:
            shown += [(picture.name, augmented(on_white(picture), rng)) for _ in range(VERSIONS_UNKNOWN)]
    names = list(dict.fromkeys(name for name, _ in shown))
    rows = []
    for number, (name, image) in enumerate(shown):
        image.save(folder / f"{number:04}.png")
        rows.append((f"{number:04}.png", name))
    (folder / "labels.txt").write_text("\n".join(names), encoding="utf-8")
    with (folder / "labelled.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    return folder / "labelled.csv"


if __name__ == "__main__":
    main()
