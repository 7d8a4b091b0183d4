"""The demo: build a memory, recognise the photographs that come with the package, draw the evidence, write a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from memory import Memory, read_labels
from recognizer.encoder import Encoder
from recognizer.images import list_images
from recognizer.pictures import draw_row
from recognizer.recognizer import Recognizer
from recognizer.report import write_report
from recognizer.results import ResultRow, open_results
from recognizer.run import recognize_into, run_setup

DATA = Path(__file__).parent / "demo_data"


@dataclass(frozen=True, slots=True)
class Demo:
    """Output of the demo.

    Attributes:
        rows: one result per photograph.
        results: the results file.
        pictures: the annotated pictures.
        report: the page of the results.
    """

    rows: list[ResultRow]
    results: Path
    pictures: list[Path]
    report: Path


def run_demo(output: Path, *, device: str = "auto", precision: str = "auto") -> Demo:
    """Build a memory from the demo's label file, recognise its photographs, draw the evidence and write a report.

    Args:
        output: folder for the memory, the results, the pictures and the report; those of an earlier demo are replaced.
        device: device of the encoder.
        precision: precision of the encoder.
    """
    encoder = Encoder.load("starter", device=device, precision=precision)
    memory = Memory.build(
        read_labels(DATA / "labels.json"), output / "memory", encoder=encoder, templates=encoder.default_templates
    )
    recognizer = Recognizer(encoder, memory)
    listing = list_images([DATA / "photos"])
    setup = run_setup(recognizer.memory, recognizer.settings, listing, device=device, precision=precision)
    rows: list[ResultRow] = []
    with open_results(output / "results.jsonl", keys=listing.keys, setup=setup, overwrite=True) as sink:
        for batch in recognize_into(recognizer, listing, sink):
            rows.extend(row for row in batch if isinstance(row, ResultRow))
        sink.finish()
    pictures = [_draw(row, output / "pictures") for row in rows]
    report = write_report(output / "results.jsonl", output / "report", images=DATA / "photos")
    return Demo(rows, output / "results.jsonl", pictures, report.index)


def _draw(row: ResultRow, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(DATA / "photos" / row.path) as photograph:
        picture = draw_row(photograph, row)
    path = folder / Path(row.path).with_suffix(".png").name
    picture.save(path)
    return path
