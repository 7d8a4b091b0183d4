"""The command line: each command is a few lines over a function that Python users can call.

Results go to stdout, chatter to stderr. Heavy libraries are imported inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recognizer.console import note, progress_bar, table, text_progress, user_errors

if TYPE_CHECKING:
    from memory import BuildReport

app = typer.Typer(
    name="recognizer",
    help="Open-vocabulary recognition with evidence: a label file and a folder of images in, ranked categories and the "
    "regions that speak for them out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
)


class Index(StrEnum):
    """How a memory is searched."""

    exact = "exact"
    hnsw = "hnsw"


class Format(StrEnum):
    """How results are written."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


MemoryOption = Annotated[Path, typer.Option("--memory", help="The memory's directory.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")]
PrecisionOption = Annotated[str, typer.Option(help="auto (bf16 where the hardware has it), fp32, bf16.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file with settings; see configs/run.yaml.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="One setting, such as run.top_k=10; repeatable.")]


@app.command()
def build(
    labels: Annotated[
        Path, typer.Argument(help="Label file (text, CSV, TSV, JSON, JSONL, COCO) or folder of folders.")
    ],
    memory: MemoryOption,
    model: Annotated[
        str | None,
        typer.Option(
            help="starter, an open_clip name, hf-hub:OWNER/NAME, local-dir:DIR, or a .safetensors file of `train`; "
            "default: the memory's, or starter."
        ),
    ] = None,
    pretrained: Annotated[str | None, typer.Option(help="open_clip tag or file; starter: grounded or conse.")] = None,
    templates: Annotated[Path | None, typer.Option(help="One template per line, {} or {c} for the name.")] = None,
    format: Annotated[
        str, typer.Option(help="auto, text, csv, tsv, json, descriptors, cupl, jsonl, coco, folder.")
    ] = "auto",
    key: Annotated[str, typer.Option(help="name, or name,group where equal names are told apart by group.")] = "name",
    exemplars: Annotated[
        Path | None, typer.Option(help="Few-shot images: DIR/NAME/IMAGE, or a CSV of path,label.")
    ] = None,
    index: Annotated[Index | None, typer.Option(help="exact, or hnsw; default: the memory's, or exact.")] = None,
    fine_grained: Annotated[
        bool, typer.Option("--fine-grained", help="Store `rerank: always` with the memory.")
    ] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Make a memory hold the categories of a label file, and only those; texts it knows are not encoded again."""
    from memory import read_labels
    from recognizer.building import build_memory, published_manifest, read_templates

    categories = read_labels(labels, format=format, key=key)
    wordings = read_templates(templates) if templates else None
    from recognizer.encoder import Encoder

    before = published_manifest(memory)
    if model is None and pretrained is None and before is not None:
        encoder = Encoder.from_spec(before.encoder.spec, device=device, precision=precision)
        wordings = wordings or before.templates
    else:
        encoder = Encoder.load(model or "starter", pretrained, device=device, precision=precision)
    kept = Index(before.index.kind) if before is not None else Index.exact
    with text_progress() as progress:
        report = build_memory(
            categories,
            memory,
            encoder=encoder,
            templates=wordings,
            exemplars=exemplars,
            index=(index or kept).value,
            fine_grained=fine_grained,
            progress=progress,
            warn=note,
        )
    _print_report(report, memory)


@app.command()
def add(
    labels: Annotated[Path, typer.Argument(help="Label file with the categories to add.")],
    memory: MemoryOption,
    format: Annotated[str, typer.Option(help="As for build.")] = "auto",
    key: Annotated[str, typer.Option(help="As for build.")] = "name",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Add categories to a memory; only their own texts are encoded."""
    from memory import Memory, read_labels

    categories = read_labels(labels, format=format, key=key)
    opened = Memory.open(memory)
    from recognizer.encoder import Encoder

    encoder = Encoder.from_spec(opened.encoder.spec, device=device, precision=precision)
    with text_progress() as progress:
        report = opened.add(categories, encoder=encoder, progress=progress)
    _print_report(report, memory)


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(help="Names as they are in the memory, or ids.")],
    memory: MemoryOption,
) -> None:
    """Remove categories with their descriptions and exemplars."""
    from memory import Memory

    removed = Memory.open(memory).remove(names)
    print(f"removed {len(removed)} categories from {memory}")


@app.command()
def info(
    memory: MemoryOption, as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False
) -> None:
    """Show what a memory holds."""
    from memory import Memory

    opened = Memory.open(memory)
    found = asdict(opened.info()) | {"settings": opened.settings}
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2, default=str))
        return
    found["encoder"] = (
        f"{opened.encoder.name}, {opened.encoder.precision}, fingerprint {opened.encoder.fingerprint[:12]}"
    )
    found["templates"] = " | ".join(opened.templates)
    print(table(["what", "value"], [[key, str(value)] for key, value in found.items()], widest=100))


@app.command()
def verify(memory: MemoryOption) -> None:
    """Check a memory: files, counts, dimensions, unit norms, orphan rows, fingerprint, index."""
    from memory import Memory

    findings = Memory.open(memory).verify()
    print(
        table(["", "finding"], [["ok" if finding.ok else "BAD", finding.message] for finding in findings], widest=120)
    )
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def export(
    memory: MemoryOption,
    output: Annotated[str, typer.Option(help="A file, or - for stdout.")] = "-",
    vectors: Annotated[bool, typer.Option("--vectors", help="With vectors, base64 float32.")] = False,
) -> None:
    """Write a memory as JSON lines, sorted; `build` reads them."""
    from memory import Memory

    opened = Memory.open(memory)
    if output == "-":
        opened.export(sys.stdout, vectors=vectors)
        return
    with Path(output).open("w", encoding="utf-8", newline="\n") as stream:
        opened.export(stream, vectors=vectors)


@app.command()
def run(
    images: Annotated[list[str], typer.Argument(help="Folder, glob, image files, or a .txt list of them.")],
    memory: MemoryOption,
    output: Annotated[str, typer.Option(help="Results file, or - for stdout.")],
    top_k: Annotated[int | None, typer.Option(help="Candidates per image.")] = None,
    format: Annotated[Format | None, typer.Option(help="Default: told by the file's suffix, else jsonl.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per forward pass.")] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding threads; 0: one per core.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew instead of resuming.")] = False,
    retry_errors: Annotated[bool, typer.Option("--retry-errors", help="Do failed images again.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any image failed.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Recognise a folder of images; an interrupted run goes on where it stopped."""
    from memory import Memory
    from recognizer.images import ImageInputError, list_images
    from recognizer.results import check_output, open_results
    from recognizer.settings import load_settings

    check_output(output, format.value if format else None)
    opened = Memory.open(memory)
    flags = {"top_k": top_k, "batch_size": batch_size, "workers": workers}
    given = [f"run.{name}={value}" for name, value in flags.items() if value is not None]
    settings = load_settings(config, [*(overrides or []), *given], base=opened.settings)
    listing = list_images(images)
    for problem in listing.problems:
        note(f"left out: {problem.path}: {problem.reason}")
    if not listing:
        raise ImageInputError(
            f"no images in {', '.join(images)}; give a folder, a glob, image files or a .txt list of them"
        )
    from recognizer.run import recognize_into, run_setup

    setup = run_setup(opened, settings, listing, device=device, precision=precision)
    with open_results(
        output,
        keys=listing.keys,
        batch_size=settings.run.batch_size,
        setup=setup,
        output_format=format.value if format else None,
        overwrite=overwrite,
        retry_errors=retry_errors,
    ) as sink:
        if sink.done_rows:
            note(f"{sink.done_rows} of {len(listing)} images were done before")
        if sink.done_rows < len(listing):
            from recognizer.recognizer import Recognizer

            recognizer = Recognizer.open(opened, settings=settings, device=device, precision=precision)
            with progress_bar(len(listing), "img", "recognise") as advance:
                advance(sink.done_rows)
                for rows in recognize_into(recognizer, listing, sink):
                    advance(len(rows))
        counts = sink.finish()
    failed = sum(counts.errors.values())
    reasons = ", ".join(f"{number} {code}" for code, number in sorted(counts.errors.items()))
    note(f"{counts.ok} images recognised, {failed} failed{f' ({reasons})' if failed else ''}; results in {output}")
    if failed and (strict or not counts.ok):
        raise typer.Exit(1)


@app.command()
def why(
    image: Annotated[Path, typer.Argument(help="One image file.")],
    memory: MemoryOption,
    output: Annotated[Path, typer.Option(help="Where the annotated picture goes.")] = Path("why.png"),
    config: ConfigOption = None,
    overrides: SetOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Compare the winner with the runner-up, term by term, and draw the winner's evidence."""
    from memory import Memory
    from recognizer.explanation import explain_image
    from recognizer.recognizer import Recognizer
    from recognizer.settings import load_settings

    opened = Memory.open(memory)
    settings = load_settings(config, overrides or [], base=opened.settings)
    explanation = explain_image(Recognizer.open(opened, settings=settings, device=device, precision=precision), image)
    for heading, rows in explanation.tables():
        print(table(heading, rows) + "\n")
    explanation.draw().save(output)
    print(f"picture: {output}")


@app.command("eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(help="FOLDER/LABEL/IMAGE, or a CSV with the columns path and label.")],
    memory: MemoryOption,
    json_file: Annotated[Path | None, typer.Option("--json", help="The table as JSON.")] = None,
    per_class: Annotated[Path | None, typer.Option(help="Recall of every category as CSV.")] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Measure accuracy on labelled images, each part of the score switched on in turn."""
    from memory import Memory
    from recognizer.evaluate import evaluate as run_evaluation
    from recognizer.evaluation_report import print_lines, write_json, write_per_class
    from recognizer.labelled import match_labels, read_labelled
    from recognizer.recognizer import Recognizer
    from recognizer.settings import load_settings

    opened = Memory.open(memory)
    labelled = match_labels(read_labelled(folder), opened.vectors.categories)
    settings = load_settings(config, overrides or [], base=opened.settings)
    recognizer = Recognizer.open(opened, settings=settings, device=device, precision=precision)
    with progress_bar(len(labelled.items), "img", "evaluate") as advance:
        evaluation = run_evaluation(recognizer, labelled, progress=advance)
    print("\n".join(print_lines(evaluation)))
    if json_file:
        write_json(evaluation, json_file)
    if per_class:
        write_per_class(evaluation, per_class)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file with the settings; see configs/train.")],
    overrides: SetOption = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run; default: runs/NAME-OF-THE-CONFIG.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train an encoder; an interrupted run goes on where it stopped. Start it with torchrun for several processes."""
    # Recognition does without the training package; only this command, at this point, looks for it.
    result = importlib.import_module("training.train").train_from_file(
        config, overrides or [], output=output, device=device
    )
    if os.environ.get("RANK", "0") == "0":
        if result.metrics:
            print(result.table())
        print(f"{result.steps} steps; encoder: {result.encoder}")


@app.command()
def doctor() -> None:
    """Show what is installed, which devices there are and which weights are at hand."""
    from recognizer.doctor import examine

    checks = examine()
    for check in checks:
        print(f"{'ok ' if check.ok else 'BAD'}  {check.subject}: {check.finding}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the memory, the results and the pictures.")] = Path(
        "recognizer-demo"
    ),
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Recognise the photographs that ship with the package and draw the evidence."""
    note("loading the starter encoder ...")
    from recognizer.demo import run_demo

    made = run_demo(output, device=device, precision=precision)
    lines = []
    for row in made.rows:
        best = row.candidates[0]
        piece = next((piece for piece in best.evidence if piece.region is not None), best.evidence[0])
        lines.append([row.path, best.category, f"{best.confidence:.2f}", f"{piece.value:.2f}  {piece.description}"])
    print(table(["file", "label", "confidence", "best evidence"], lines))
    print(f"\nresults:  {made.results.resolve()}\npictures: {made.pictures[0].parent.resolve()}")


def main() -> None:
    """Run the command line; errors meant for the user are one sentence on stderr and exit code 2."""
    try:
        app()
    except KeyboardInterrupt:
        note("interrupted; the same command goes on from here")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if not isinstance(error, user_errors()):
            raise
        note(f"error: {error}")
        sys.exit(2)


def _print_report(report: BuildReport, memory: Path) -> None:
    recall = f"; recall@10 of the approximate search {report.ann_recall:.3f}" if report.ann_recall is not None else ""
    texts = f"{report.texts_encoded} encoded, {report.texts_reused} reused, {report.texts_truncated} truncated"
    print(
        f"{memory}: {report.categories} categories, {report.descriptions} descriptions; texts: {texts}; "
        f"{report.seconds:.1f} s{recall}"
    )
