"""Results as `run` would write them, made without an encoder."""

import json
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from recognizer.results import CandidateRow, ErrorRow, EvidenceRow, ResultRow, encode_row
from recognizer.results.row import RowBox
from recognizer.results.run_info import RunInfo, read_run_info, write_run_info
from recognizer.results.shards import INFO_NAME
from recognizer.results.tables import arrow_table

LABELS = [("snowy owl", "animal > bird"), ("barn owl", "animal > bird"), ("tabby cat", "animal > mammal")]
LABELS += [("cup of coffee", "drink"), ("cup of tea", "drink"), ("كوب شاي", "drink"), ("雪鴞", "animal > bird")]
ORIENTATION = 274  # tag of EXIF


def write_run(path: Path, rows, root: Path | None, *, state="finished", **info):
    """Write rows and what made them; returns the path of the rows."""
    path.write_bytes(b"".join(map(encode_row, rows)))
    if root is not None:
        content = {
            "output": path.name,
            "format": "jsonl",
            "state": state,
            "command": [],
            "model": {"name": "an encoder", "fingerprint": "0"},
            "memory": {"path": "/somewhere/birds.memory", "categories": 7, "digest": "0"},
            "settings": {"score": {"image_name": 0.2}},
            "device": "cpu",
            "input_root": str(root),
            "count": len(rows),
        }
        write_run_info(path.with_name(path.name + ".run.json"), RunInfo(**{**content, **info}))
    return path


def write_shards(folder: Path, run: Path, *, files=3, seed=0):
    """Write the rows of a run as workers do: its images in any order, in several Parquet files; returns the folder."""
    rows = [json.loads(line) for line in run.read_bytes().splitlines()]
    random.Random(seed).shuffle(rows)
    folder.mkdir()
    for number in range(files):
        pq.write_table(arrow_table(rows[number::files]), folder / f"rows-{number:06}.parquet")
    info = read_run_info(run.with_name(run.name + ".run.json"))
    if info is not None:
        write_run_info(folder / INFO_NAME, replace(info, output=folder.name, format="parquet"))
    return folder


@cache
def evidence(category, size_wh, seed, box=None):
    """Some pieces of evidence, the first with a region; the same for many rows, which is quicker."""
    generator = random.Random(f"{category} {seed}")
    width, height = size_wh
    left, top = generator.uniform(0, width / 2), generator.uniform(0, height / 2)
    box = box or (round(left, 2), round(top, 2), round(left + width / 3, 2), round(top + height / 3, 2))
    values = [round(generator.uniform(0.1, 0.5), 4) for _ in range(4)]
    return [
        EvidenceRow("region_name", category, 7, box, values[0], 0.3, round(0.3 * values[0], 6)),
        EvidenceRow("image_name", category, None, None, values[1], 0.2, round(0.2 * values[1], 6)),
        EvidenceRow("region_description", "yellow eyes", 3, box, values[2], 0.15, round(0.15 * values[2], 6)),
        EvidenceRow("image_description", "yellow eyes", None, None, values[3], 0.1, round(0.1 * values[3], 6)),
    ]


def result(path, names, *, size_wh=(64, 48), confidence=0.6, seed=0, box=None, region=None, **fields):
    """A row whose candidates have these names, best first; each is a name, or a name and a group."""
    pairs = [(label, "") if isinstance(label, str) else label for label in names]
    candidates = []
    for rank, (name, group) in enumerate(pairs):
        pieces = evidence(name, size_wh, seed, None if region is None else tuple(region))
        score = sum(piece.contribution for piece in pieces)
        share = confidence if rank == 0 else (1 - confidence) / 2**rank
        candidates.append(CandidateRow(category=name, group=group, score=score, confidence=share, evidence=pieces))
    return ResultRow(
        path=path,
        box=None if box is None else RowBox(id=box[0], xyxy=box[1]),
        width=size_wh[0],
        height=size_wh[1],
        **{
            "label": pairs[0][0],
            "confidence": confidence,
            "calibrated": True,
            "unknown": False,
            "candidates": candidates,
            **fields,
        },
    )


def mixed_rows(count, *, seed=0):
    """Rows of every kind, in folders of their true labels."""
    generator = random.Random(seed)
    rows = []
    for number in range(count):
        true = generator.randrange(len(LABELS))
        path = f"{LABELS[true][0]}/{number:06}.jpg"
        if number % 50 == 49:
            code, reason = generator.choice(
                [("E_TRUNCATED", "the JPEG ends before the image is complete"), ("E_EMPTY", "the file has no bytes")]
            )
            rows.append(ErrorRow(path=path, code=code, reason=reason))
            continue
        others = generator.sample(range(len(LABELS)), 4)
        first = true if generator.random() < 0.7 else others[0]
        order = [first, *(other for other in others if other != first)][:4]
        labels = [LABELS[place] for place in order]
        fields = {}
        confidence = round(generator.uniform(0.3, 0.99), 4)
        if number % 17 == 0:
            fields = {"unknown": True}
        elif number % 23 == 0:
            fields = {"status": "below", "label": None}
        elif number % 7 == 0:
            moved = [1, 0, *range(2, len(labels))] if number % 14 == 0 else [*range(len(labels))]
            shares = [0.7, 0.2, 0.05, 0.05][: len(labels)]
            fields = {"rerank": {"status": "ok", "model": "tiny MLLM", "order": moved, "probabilities": shares}}
        elif number % 29 == 0:
            fields = {"rerank": {"status": "timeout", "model": "tiny MLLM", "order": [*range(len(labels))]}}
        elif number % 31 == 0 and " > " in labels[0][1]:
            fields = {"label": "bird", "label_path": "animal > bird", "label_level": 2, "source": "rolled up"}
        fields.setdefault("group_confidence", {"animal": 0.7, "animal > bird": 0.5, "drink": 0.2})
        rows.append(result(path, labels, confidence=confidence, seed=number % 10, **fields))
    return rows


def draw_image(path: Path, size_wh=(64, 48), *, square=None, orientation=None, colour="navy"):
    """Write a JPEG of one colour, with a red square in the displayed image, which is stored turned by its EXIF."""
    image = Image.new("RGB", size_wh, colour)
    if square is not None:
        ImageDraw.Draw(image).rectangle(square, fill="red")
    exif = Image.Exif()
    exif[270] = "made by somebody at home"
    if orientation == 6:  # the viewer turns it by 90 degrees clockwise
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[ORIENTATION] = 6
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95, exif=exif)
    return path
