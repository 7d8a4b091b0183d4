"""The command that learns from corrections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memory.wording import counted
from recognizer.cli.app import app
from recognizer.cli.options import INPUT, OUTPUT, DeviceOption, FeaturesOption, MemoryOption, PrecisionOption, SetOption
from recognizer.console import note, show, table

_MOST_SHOWN = 20


@app.command()
def learn(
    corrections: Annotated[Path, typer.Argument(help="Corrections, as `review` writes them: JSON lines.")],
    memory: MemoryOption,
    results: Annotated[Path, typer.Option(help="The results that were corrected.", rich_help_panel=INPUT)],
    output: Annotated[
        Path | None,
        typer.Option(help="File for new results. Default: RESULTS with .learnt in its name.", rich_help_panel=OUTPUT),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images. Default: the one of the run.", rich_help_panel=INPUT),
    ] = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    overrides: SetOption = None,
) -> None:
    """Teach a memory what was corrected, and score the folder again.

    Example: recognizer learn corrections.jsonl --memory birds.memory --results results.jsonl --features features
    """
    from memory import Memory
    from recognizer.cli.stored_features import opened_features, usable_features
    from recognizer.corrections.again import score_again
    from recognizer.corrections.learn import learn as learn_from
    from recognizer.corrections.learn import read_examples
    from recognizer.corrections.log import read_corrections
    from recognizer.encoder import Encoder
    from recognizer.memory_settings import carried_settings
    from recognizer.recognizer import Recognizer
    from recognizer.reranking.file import read_results
    from recognizer.settings import load_settings

    read = read_corrections(corrections)
    if read.damaged:
        note(f"{corrections}: left out: {counted(read.damaged, 'line')} that is no correction")
    earlier = read_results(results, images)
    said = read.latest()
    strange = len(said.keys() - {row.key for row in earlier.rows})
    if strange:
        note(f"left out: {counted(strange, 'correction')} of images that are not in {results}")
    opened = Memory.open(memory)
    settings = load_settings(None, overrides or [], base=carried_settings(opened, warn=note), warn=note)
    encoder = Encoder.from_spec(opened.encoder.spec, device=device, precision=precision)
    with opened_features(usable_features(features, settings), encoder, settings.images) as store:
        examples = read_examples(encoder, said, earlier.rows, earlier.root, settings=settings, features=store)
        for sentence in examples.unreadable:
            note(f"left out: {sentence}")
        learnt = learn_from(opened, encoder, examples, score=settings.score)
        show(
            f"learnt: {counted(learnt.exemplars, 'exemplar')}, {counted(len(learnt.added), 'new category')}; "
            f"{counted(learnt.encoded, 'image')} encoded"
        )
        if learnt.apart:
            show(
                f"accuracy on {learnt.apart} corrections kept apart: {learnt.before:.3f} before, {learnt.after:.3f} "
                "with what was learnt from the others"
            )
        fresh = Memory.open(memory)
        settings = load_settings(None, overrides or [], base=carried_settings(fresh), warn=note)
        top_k = earlier.info.settings.get("run", {}).get("top_k", settings.run.top_k)
        settings = settings.model_copy(update={"run": settings.run.model_copy(update={"top_k": top_k})})
        recognizer = Recognizer(encoder, fresh, settings=settings, features=store)
        target = output or results.with_name(f"{results.stem}.learnt{results.suffix}")
        touched = {one.new for one in said.values() if one.new is not None}
        done = score_again(recognizer, earlier, target, touched=touched, source=corrections, warn=note)
    lines = [[change.key, change.before or "-", change.after or "-"] for change in done.changes[:_MOST_SHOWN]]
    if lines:
        show(table(["image", "before", "after"], lines))
    more = len(done.changes) - len(lines)
    show(
        f"{counted(done.scored, 'row')} scored again ({done.encoded} encoded), {counted(len(done.changes), 'label')} "
        f"changed{f', {more} of them not shown' if more else ''}; results: {target}"
    )
