"""Commands about corrections: `review` takes them, `learn` learns from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memory.errors import printable
from memory.wording import counted
from recognizer.cli.app import app
from recognizer.cli.options import (
    INPUT,
    OUTPUT,
    SERVER,
    DeviceOption,
    FeaturesOption,
    MemoryOption,
    PrecisionOption,
    SetOption,
)
from recognizer.console import note, show, table

_MOST_SHOWN = 20
RunImagesOption = Annotated[
    Path | None, typer.Option(help="Folder of the images. Default: the one of the run.", rich_help_panel=INPUT)
]


@app.command()
def review(
    results: Annotated[Path, typer.Argument(help="Results of `run`: a file, or a folder of Parquet files.")],
    memory: MemoryOption,
    corrections: Annotated[
        Path | None,
        typer.Option(help="File of corrections. Default: RESULTS.corrections.jsonl.", rich_help_panel=OUTPUT),
    ] = None,
    images: RunImagesOption = None,
    features: FeaturesOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.", rich_help_panel=SERVER)] = 0,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    overrides: SetOption = None,
) -> None:
    """Look through results in a browser and correct them; the memory learns from it at the press of a button.

    A box that is dragged over a picture gets a name of its own, and is learnt like an image.

    With --features, images are in the order in which a look says most, and learning encodes nothing but texts.

    Example: recognizer review results.jsonl --memory birds.memory --features features
    """
    import importlib.util
    import tempfile
    from contextlib import AbstractContextManager
    from functools import cache

    from recognizer.errors import RecognizerError

    if importlib.util.find_spec("fastapi_offline") is None:
        raise RecognizerError('review needs more packages: pip install "recognizer[serve]"')
    from memory import Memory
    from recognizer.cli.stored_features import opened_features, usable_features
    from recognizer.corrections.log import CorrectionLog
    from recognizer.encoder import Encoder
    from recognizer.features import FeatureStore
    from recognizer.memory_settings import carried_settings
    from recognizer.review.app import make_review_app
    from recognizer.review.session import ReviewSession
    from recognizer.review.word import kept_word
    from recognizer.serving.listening import address, listen
    from recognizer.serving.server import make_server, run_server
    from recognizer.settings import Settings, load_settings

    def settings_of(opened: Memory) -> Settings:
        return load_settings(None, overrides or [], base=carried_settings(opened), warn=note)

    opened = Memory.open(memory)
    settings = settings_of(opened)
    folder = usable_features(features, settings)

    @cache
    def encoder() -> Encoder:
        return Encoder.from_spec(opened.encoder.spec, device=device, precision=precision)

    def open_store(encoder: Encoder) -> AbstractContextManager[FeatureStore | None]:
        return opened_features(folder, encoder, settings.images)

    listening = listen("127.0.0.1", port)
    note("writing the page ...")
    with tempfile.TemporaryDirectory(prefix="recognizer-review-") as temporary:
        session = ReviewSession(
            results=results,
            memory=memory,
            log=CorrectionLog(corrections or results.with_name(f"{results.stem}.corrections.jsonl")),
            report=Path(temporary, "page"),
            encoder=encoder,
            open_features=open_store,
            settings_of=settings_of,
            warn=note,
            images=images,
        )
        word = kept_word(results)
        show(f"{address('127.0.0.1', listening.getsockname()[1])}/{word}/")
        note(f"corrections are kept in {session.log.path}; Ctrl-C stops")
        server = make_server(lambda _: make_review_app(session, word=word, settings=settings.serve), settings.serve)
        run_server(server, listening)
    note("stopped")


@app.command()
def learn(
    corrections: Annotated[
        Path,
        typer.Argument(
            help="Corrections: the JSON lines of `review`, an export of Label Studio (JSON), or a CSV with the columns "
            "path and label, for boxes also x1,y1,x2,y2 (pixels) or box_id."
        ),
    ],
    memory: MemoryOption,
    results: Annotated[Path, typer.Option(help="The results that were corrected.", rich_help_panel=INPUT)],
    output: Annotated[
        Path | None,
        typer.Option(
            help="New file for the results. Default: RESULTS with .learnt in its name, .learnt-2 the next time.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    images: RunImagesOption = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    overrides: SetOption = None,
) -> None:
    """Teach a memory what was corrected, and score the folder again.

    In CSV and Label Studio, every label counts as checked by a person, whether it was changed or not.

    Example: recognizer learn corrections.jsonl --memory birds.memory --results results.jsonl --features features

    Example: recognizer learn project.json --memory birds.memory --results results.jsonl
    """
    from memory import Memory
    from recognizer.cli.stored_features import opened_features, usable_features
    from recognizer.corrections.again import learn_again, learnt_path, require_new
    from recognizer.corrections.imports import read_any
    from recognizer.corrections.learn import without_row
    from recognizer.encoder import Encoder
    from recognizer.memory_settings import carried_settings
    from recognizer.reranking.file import read_results
    from recognizer.settings import Settings, load_settings

    target = output or learnt_path(results)
    require_new(target)
    earlier = read_results(results, images)
    opened = Memory.open(memory)
    read, problems = read_any(corrections, earlier, opened.bare_categories)
    said = read.latest()
    strange = without_row(said, earlier.rows)
    if strange:
        some = counted(len(strange), "correction")
        problems = [*problems, f"{some} of images that are not in {results}, such as {printable(strange[0])}"]
    for sentence in problems[:_MOST_SHOWN]:
        note(f"{corrections}: left out: {sentence}")
    if len(problems) > _MOST_SHOWN:
        note(f"{corrections}: {len(problems) - _MOST_SHOWN} others left out")

    def settings_of(opened: Memory) -> Settings:
        return load_settings(None, overrides or [], base=carried_settings(opened), warn=note)

    settings = settings_of(opened)
    encoder = Encoder.from_spec(opened.encoder.spec, device=device, precision=precision)
    with opened_features(usable_features(features, settings), encoder, settings.images) as store:
        lesson = learn_again(
            memory,
            encoder,
            earlier,
            said,
            target,
            settings_of=settings_of,
            features=store,
            source=corrections,
            warn=note,
        )
    learnt, done = lesson.learnt, lesson.scored
    if lesson.problem:
        note(lesson.problem)
    show(
        f"learnt: {counted(learnt.exemplars, 'exemplar')}, "
        f"{counted(len(learnt.added), 'new category', 'new categories')}; {counted(learnt.encoded, 'image')} encoded"
    )
    if learnt.apart:
        show(
            f"accuracy on {learnt.apart} corrections kept apart: {learnt.before:.3f} before, {learnt.after:.3f} "
            "with what was learnt from the others"
        )
    if done.kept:
        note(
            f"{counted(done.kept, 'row')} keep their earlier scores: their features are not stored, and none of their "
            "candidates was corrected; give --features to score all of them again"
        )
    lines = [[change.key, change.before or "-", change.after or "-"] for change in done.changes[:_MOST_SHOWN]]
    if lines:
        show(table(["image", "before", "after"], lines))
    more = len(done.changes) - len(lines)
    show(
        f"{counted(done.scored, 'row')} scored again ({done.encoded} encoded), {counted(len(done.changes), 'label')} "
        f"changed{f', {more} of them not shown' if more else ''}; results: {target}"
    )
