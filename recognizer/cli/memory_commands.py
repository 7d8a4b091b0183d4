"""Commands that build and edit a memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory.wording import counted
from recognizer.cli.app import app
from recognizer.cli.examples import add_examples, remove_examples
from recognizer.cli.label_files import read_label_file
from recognizer.cli.options import (
    ENCODER,
    INDEX_HELP,
    INPUT,
    RERANKING,
    SEARCH,
    AliasesOption,
    DescriptionsOption,
    DeviceOption,
    FeaturesOption,
    HeaderOption,
    Hierarchy,
    Index,
    KeyOption,
    LabelFormatOption,
    MemoryOption,
    NameColumnOption,
    OnnxOption,
    PrecisionOption,
    Unknown,
)
from recognizer.cli.stored_features import opened_features
from recognizer.console import note, show, text_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memory import Category, Memory

_NOTHING = "nothing to do, the memory holds all of this"


@app.command()
def build(
    labels: Annotated[
        Path,
        typer.Argument(
            help="Label file (text; CSV, TSV or Parquet with columns name, description, group, aliases; JSON, JSONL, "
            "COCO, LVIS; class lists of YOLO, Hugging Face, torchvision, Keras, TensorFlow, Label Studio and others), "
            "or a folder with one subfolder of images per name."
        ),
    ],
    memory: MemoryOption,
    model: Annotated[
        str | None,
        typer.Option(
            help="small, base, large (`recognizer models` lists them), starter, an open_clip name, hf-hub:OWNER/NAME, "
            "local-dir:DIR, or a .safetensors file from `train`. Default: the encoder of the memory; for a new one "
            "base if its files are on this machine already, or starter.",
            rich_help_panel=ENCODER,
        ),
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            help="For an open_clip name: a tag, a file (of open_clip or Transformers), or TAG=FILE for a file whose "
            "images are prepared as the tag's. For starter: grounded or conse.",
            rich_help_panel=ENCODER,
        ),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            help="File of templates, in which {} or {c} stands for the name: one per line, a JSON list, or lambdas of "
            "open_clip.",
            rich_help_panel=ENCODER,
        ),
    ] = None,
    format: LabelFormatOption = "auto",
    key: KeyOption = "name",
    header: HeaderOption = None,
    name_column: NameColumnOption = None,
    aliases: AliasesOption = None,
    descriptions: DescriptionsOption = None,
    exemplars: Annotated[
        Path | None,
        typer.Option(
            help="Few-shot images: DIR/NAME/IMAGE, or a CSV file with the columns path and label.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    features: FeaturesOption = None,
    index: Annotated[
        Index | None,
        typer.Option(help=INDEX_HELP, rich_help_panel=SEARCH),
    ] = None,
    hierarchy: Annotated[
        Hierarchy | None,
        typer.Option(
            help="wordnet: categories without a group get the path of their hypernyms as one. Groups that are paths "
            "('animal > bird'), columns of ranks or a column parent need no option.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    fine_grained: Annotated[
        bool,
        typer.Option(
            "--fine-grained", help="Rerank every image by default; stored in the memory.", rich_help_panel=RERANKING
        ),
    ] = False,
    unknown: Annotated[
        Unknown | None,
        typer.Option(
            help="negatives: also store names of other things (from WordNet), by which `run` tells images of none of "
            "the categories without labelled images. Default: as in the memory, or confidence, which needs "
            "`calibrate`.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    onnx: OnnxOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Build a memory from a label file: it then holds exactly these categories; texts it knows are not encoded again.

    Example: recognizer build labels.csv --memory birds.memory

    Example: recognizer build labels.csv --memory birds.memory --exemplars labelled --index auto
    """
    from memory.remote.address import is_address
    from recognizer.unchanged import input_hash, remember_build, unchanged_memory

    started, inputs = time.monotonic(), None
    if exemplars is None and not is_address(memory):
        options = {
            "labels": [format, key, header, name_column, aliases, hierarchy],
            "memory": [index, fine_grained, unknown, device, precision],
            # Names of an encoder may be files, relative to the working directory.
            "encoder": None if model is None and pretrained is None else [model, pretrained, str(Path.cwd())],
        }
        inputs = input_hash([labels, templates, *(descriptions or [])], options)
        unchanged = unchanged_memory(Path(memory), inputs)
        if unchanged is not None:
            _print_contents(unchanged, f"{_NOTHING}; {time.monotonic() - started:.1f} s")
            return

    from memory.errors import printable
    from memory.recovery import published_manifest
    from memory.remote.memory import local_copy
    from recognizer.building import build_memory, explain_encoder, explain_index, load_default_encoder, read_templates
    from recognizer.describing.joining import join_descriptions, read_descriptions
    from recognizer.encoder import Encoder
    from recognizer.encoder.named import NAMED
    from recognizer.encoder.open_clip.catalogue import is_named_at_hand
    from recognizer.images import ImageLimits

    categories: Sequence[Category] = read_label_file(labels, format, key, header, name_column, aliases)
    for file in descriptions or []:
        categories, sentence = join_descriptions(categories, read_descriptions(file))
        note(f"{file.name}: {sentence}")
    wordings = read_templates(templates) if templates else None
    if wordings:
        note(f"templates: {len(wordings)}, such as {', '.join(repr(printable(text)) for text in wordings[:2])}")
    existing = published_manifest(local_copy(memory))
    if model is None and pretrained is None and existing is not None:
        encoder = Encoder.from_spec(existing.encoder.spec, device=device, precision=precision, onnx=onnx)
        wordings = wordings or existing.templates
    elif model is None and pretrained is None and onnx is not None:
        from recognizer.encoder.onnx.folder import read_card

        encoder = Encoder.from_spec(read_card(onnx).encoder.spec, device=device, precision=precision, onnx=onnx)
        note(f"encoder: {encoder.card.name}, from {onnx}")
    elif model is None and pretrained is None:
        encoder, sentence = load_default_encoder(device=device, precision=precision)
        note(sentence)
    else:
        if model in NAMED and not is_named_at_hand(NAMED[model]):
            note(f"fetching the files of {NAMED[model]} ...")
        encoder = Encoder.load(model or "starter", pretrained, device=device, precision=precision, onnx=onnx)
        for sentence in explain_encoder(encoder):
            note(sentence)
    if hierarchy is Hierarchy.wordnet:
        from recognizer.hierarchy.wordnet import with_hypernyms

        categories, sentence = with_hypernyms(categories, encoder)
        note(sentence)
    has_exemplars = exemplars is not None or any(category.exemplars for category in categories)
    default_index = Index(existing.index.kind) if existing is not None else Index.exact
    with (
        opened_features(features if has_exemplars else None, encoder, ImageLimits()) as stored,
        text_progress() as progress,
    ):
        built = build_memory(
            categories,
            memory,
            encoder=encoder,
            templates=wordings,
            exemplars=exemplars,
            index=(index or default_index).value,
            fine_grained=fine_grained,
            unknown=unknown.value if unknown else None,
            features=stored,
            progress=progress,
            step=lambda what: note(f"{what} ..."),
            warn=note,
        )
    remember_build(built, inputs)
    if index is Index.auto:
        note(explain_index(built))
    _print_contents(built, _work(built))


@app.command()
def add(
    memory: MemoryOption,
    labels: Annotated[Path | None, typer.Argument(help="Label file with the categories to add.")] = None,
    format: LabelFormatOption = "auto",
    key: KeyOption = "name",
    header: HeaderOption = None,
    name_column: NameColumnOption = None,
    aliases: AliasesOption = None,
    exemplars: Annotated[
        Path | None,
        typer.Option(
            help="Few-shot images to add: DIR/NAME/IMAGE, or a CSV file with the columns path and label.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Add categories, example images, or both to a memory; only what it does not know is encoded.

    Example: recognizer add more.csv --memory birds.memory
    """
    from memory import Memory
    from recognizer.errors import RecognizerError

    if labels is None and exemplars is None:
        raise RecognizerError("there is nothing to add; give a label file, --exemplars, or both")
    categories = read_label_file(labels, format, key, header, name_column, aliases) if labels is not None else ()
    opened = Memory.open(memory)
    from recognizer.encoder import Encoder
    from recognizer.exemplars import store_head
    from recognizer.unknown.mining import labels_again

    encoder = Encoder.from_spec(opened.encoder.spec, device=device, precision=precision)
    if categories:
        before = opened.info().categories
        negatives = labels_again(opened)
        with text_progress() as progress:
            opened.add(categories, encoder=encoder, negatives=negatives, progress=progress)
        store_head(opened)
        now = opened.info().categories
        merged = opened.report.categories - (now - before)
        also = f", merged {counted(merged, 'category')} that it had" if merged else ""
        show(f"added {counted(now - before, 'category')}{also}; {opened.location} now has {counted(now, 'category')}")
        show(_work(opened))
    if exemplars is not None:
        add_examples(opened, encoder, exemplars, features)
    _say_calibration(opened)


@app.command()
def remove(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Names or ids of categories; with --exemplars paths of exemplars as the memory has them, or names of "
            "categories."
        ),
    ],
    memory: MemoryOption,
    exemplars: Annotated[
        bool,
        typer.Option(
            "--exemplars",
            help="Remove example images only: these, or all those of these categories.",
            rich_help_panel=INPUT,
        ),
    ] = False,
) -> None:
    """Remove categories with their descriptions and exemplars, or exemplars alone.

    Example: recognizer remove kingfisher "snowy owl" --memory birds.memory
    """
    from memory import Memory
    from recognizer.exemplars import store_head

    opened = Memory.open(memory)
    if exemplars:
        remove_examples(opened, names)
        _say_calibration(opened)
        return
    removed = opened.remove(names)
    store_head(opened)
    now = opened.info().categories
    show(f"removed {counted(len(removed), 'category')}; {opened.location} now has {counted(now, 'category')}")
    _say_calibration(opened)


def _say_calibration(changed: Memory) -> None:
    from recognizer.memory_settings import calibration_problem

    if problem := calibration_problem(changed):
        note(problem)


def _print_contents(memory: Memory, work: str) -> None:
    numbers = memory.info()
    contents = f"{counted(numbers.categories, 'category')}, {counted(numbers.descriptions, 'description')}"
    if numbers.exemplars:
        contents += f", {counted(numbers.exemplars, 'exemplar')}"
    if numbers.negatives:
        contents += f", {counted(numbers.negatives, 'candidate')} for negative labels"
    show(f"{memory.location}: {contents}; {work}")


def _work(memory: Memory) -> str:
    """Say what an edit cost: texts, seconds, and what an approximate search finds."""
    report = memory.report
    recall = f"; recall@10 of the approximate search {report.ann_recall:.3f}" if report.ann_recall is not None else ""
    texts = f"{report.texts_encoded} encoded, {report.texts_reused} reused, {report.texts_truncated} truncated"
    texts = _NOTHING if report.unchanged else f"texts: {texts}"
    return f"{texts}; {report.seconds:.1f} s{recall}"
