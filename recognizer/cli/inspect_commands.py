"""Commands that look at a memory: `info`, `verify`, `repair` and `export`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memory.wording import counted
from recognizer.cli.app import app
from recognizer.cli.examples import list_doubted
from recognizer.cli.label_files import PROMPTS_SHOWN, prompted_names
from recognizer.cli.options import (
    OUTPUT,
    MemoryOption,
)
from recognizer.console import note, show, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@app.command()
def info(
    memory: MemoryOption,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)] = False,
) -> None:
    """Show the contents of a memory.

    Example: recognizer info --memory birds.memory
    """
    from memory import Memory
    from recognizer.hierarchy.ranks import group_summary, shown_groups
    from recognizer.memory_settings import carried_settings

    opened = Memory.open(memory)
    categories = opened.bare_categories()
    fields = asdict(opened.info()) | {"groups": group_summary(categories)}
    settings = carried_settings(opened, warn=note)
    prompted = dict(prompted_names(categories))
    if as_json:
        fields |= {"settings": settings, "prompted": prompted}
        sys.stdout.write(json.dumps(fields, indent=2, default=str) + "\n")  # ASCII: a terminal may be what reads it
        return
    fields["encoder"] = (
        f"{opened.encoder.name}, {opened.encoder.precision}, fingerprint {opened.encoder.fingerprint[:12]}"
    )
    fields["templates"] = " | ".join(opened.templates)
    fields["groups"] = shown_groups(fields["groups"])
    recall = _shown_recall(fields.pop("index_recall"))
    rows = [[key, str(value)] for key, value in fields.items()]
    rows += [["" if place else "against exact search", line] for place, line in enumerate(recall)]
    rows += _shown_settings(settings)
    rows += _file_settings(opened.encoder.spec)
    if prompted:
        rows.append(["prompted as words", f"{counted(len(prompted), 'name')}; --json has them all"])
        rows += [[name, " | ".join(texts)] for name, texts in list(prompted.items())[:PROMPTS_SHOWN]]
    show(table(["what", "value"], rows, widest=200))


def _shown_settings(settings: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    """Yield what is set, with what calibration fitted in words."""
    from recognizer.hierarchy.rule import ASKED, confidence_for, in_words

    for part, values in settings.items():
        for name, value in values.items():
            if name == "roll_up_thresholds" and value:
                yield [f"{part}.roll_up", f"calibrated: {in_words(value)}"]
            elif name == "precision_curve" and value:
                bounds = {asked: confidence_for(value, asked) for asked in ASKED}
                reached = [f"{asked:g} from confidence {at:.3g} on" for asked, at in bounds.items() if at is not None]
                best = int(max(point[1] for point in value) * 1000) / 1000  # rounded up, it would be refused
                yield [f"{part}.precision", f"calibrated: {', '.join([*reached, f'at most {best:g}'])}"]
            elif value is not None:
                yield [f"{part}.{name}", f"{value}"]


def _shown_recall(figures: Mapping[str, float]) -> list[str]:
    """Say what was measured of an index against exact search, a line for each figure."""
    words = {
        "search": "recall@10 {:.3f} of the index",
        "ranking": "recall@10 {:.3f} of the ranking",
        "winner": "winners {:.1%} the same",
        "confidence": "confidences within {:.3f}",
    }
    shown = {**figures, "confidence": max(figures.get("confidence", 0), 0.001)}  # the least that three digits say
    return [text.format(shown[name]) for name, text in words.items() if name in figures]


def _file_settings(spec: Mapping[str, Any]) -> list[list[str]]:
    """Say how images are prepared for an encoder whose weights are from a file."""
    if spec.get("kind") != "open_clip" or "settings" not in spec:
        return []
    from recognizer.encoder.open_clip.file_settings import FileSettings

    settings = FileSettings.from_json(spec["settings"])
    return [["images are prepared as by", settings.source], ["", ", ".join(settings.parts().values())]]


@app.command()
def verify(
    memory: MemoryOption,
    exemplars: Annotated[
        bool,
        typer.Option(
            "--exemplars", help="Instead, list example images that seem to have a wrong label.", rich_help_panel=OUTPUT
        ),
    ] = False,
) -> None:
    """Check a memory: files, counts, dimensions, unit norms, orphan rows, fingerprint, index.

    Example: recognizer verify --memory birds.memory
    """
    from memory import Memory

    if exemplars:
        list_doubted(Memory.open(memory))
        return
    findings = Memory.open(memory).verify()
    show(
        table(
            ["", "check", "finding"],
            [["ok" if finding.ok else "BAD", finding.check, finding.message] for finding in findings],
            widest=120,
        )
    )
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def repair(memory: Annotated[str, typer.Argument(help="The memory's directory or address.")]) -> None:
    """Restore what can be restored of a damaged memory, and say what is kept and what is lost.

    Example: recognizer repair birds.memory
    """
    from memory import Memory

    for sentence in Memory.repair(memory):
        show(sentence)


@app.command()
def export(
    memory: MemoryOption,
    output: Annotated[str, typer.Option(help="A file, or - for stdout.", rich_help_panel=OUTPUT)] = "-",
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Include vectors, as base64 of float32.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Write a memory as sorted JSON lines, which `build` can read.

    Example: recognizer export --memory birds.memory --output birds.jsonl
    """
    from memory import Memory

    opened = Memory.open(memory)
    if output == "-":
        opened.export(sys.stdout, vectors=vectors)
        return
    with Path(output).open("w", encoding="utf-8", newline="\n") as stream:
        opened.export(stream, vectors=vectors)
