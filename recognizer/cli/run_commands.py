"""Commands that recognise images."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recognizer.cli.app import (
    ConfigOption,
    DeviceOption,
    Format,
    MemoryOption,
    PrecisionOption,
    Rerank,
    RerankModelOption,
    SetOption,
    app,
    opened_reranker,
    rerank_overrides,
)
from recognizer.console import note, progress_bar, table

if TYPE_CHECKING:
    from recognizer.results.run_files import OutputFormat


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
    rerank: Annotated[
        Rerank | None, typer.Option(help="Ask a multimodal LLM: off, auto (where retrieval is unsure), always.")
    ] = None,
    rerank_model: RerankModelOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if any image failed.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Recognise a folder of images; an interrupted run goes on where it stopped."""
    from memory import Memory
    from recognizer.images import ImageInputError, list_images
    from recognizer.memory_settings import carried_settings
    from recognizer.reranking.open import require_model
    from recognizer.results import check_output, is_finished, open_results
    from recognizer.settings import load_settings

    check_output(output, format.value if format else None)
    opened = Memory.open(memory)
    flags = {"top_k": top_k, "batch_size": batch_size, "workers": workers}
    given = [f"run.{name}={value}" for name, value in flags.items() if value is not None]
    given += rerank_overrides(rerank, rerank_model)
    settings = load_settings(config, [*(overrides or []), *given], base=carried_settings(opened, warn=note), warn=note)
    require_model(settings.rerank, settings.run.top_k)
    if rerank_model and settings.rerank.when == "off":
        note("the MLLM is not asked, as rerank is off; add --rerank auto or --rerank always")
    listing = list_images(images)
    for problem in listing.problems:
        note(f"left out: {problem.path}: {problem.reason}")
    if not listing:
        raise ImageInputError(
            f"no images in {', '.join(images)}; give a folder, a glob, image files or a .txt list of them"
        )
    from recognizer.run import recognize_into, run_setup

    setup = run_setup(opened, settings, listing, device=device, precision=precision)
    chosen: OutputFormat | None = format.value if format else None
    idle = not (overwrite or retry_errors) and is_finished(output, chosen)
    with (
        # An MLLM that cannot be had is found out before anything that is there is touched.
        nullcontext() if idle else opened_reranker(settings) as reranker,
        open_results(
            output,
            keys=listing.keys,
            batch_size=settings.run.batch_size,
            setup=setup,
            output_format=chosen,
            overwrite=overwrite,
            retry_errors=retry_errors,
        ) as sink,
    ):
        if sink.done_rows:
            note(f"{sink.done_rows} of {len(listing)} images were done before")
        if sink.done_rows < len(listing):
            from recognizer.recognizer import Recognizer

            recognizer = Recognizer.open(opened, settings=settings, device=device, precision=precision)
            with progress_bar(len(listing), "img", "recognise") as advance:
                advance(sink.done_rows)
                for rows in recognize_into(recognizer, listing, sink, reranker=reranker):
                    advance(len(rows))
        counts = sink.finish()
    failed = sum(counts.errors.values())
    reasons = ", ".join(f"{number} {code}" for code, number in sorted(counts.errors.items()))
    note(f"{counts.ok} images recognised, {failed} failed{f' ({reasons})' if failed else ''}; results in {output}")
    if failed and (strict or not counts.ok):
        raise typer.Exit(1)


@app.command("rerank")
def rerank_results(
    results: Annotated[Path, typer.Argument(help="Results of `run`, in JSON lines.")],
    output: Annotated[str, typer.Option(help="Results file to write, or - for stdout.")],
    rerank: Annotated[
        Rerank | None,
        typer.Option(help="auto (where retrieval is unsure) or always, the default."),
    ] = None,
    rerank_model: RerankModelOption = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder that the paths are relative to, if it was moved since the run.")
    ] = None,
    format: Annotated[Format | None, typer.Option(help="Default: told by the file's suffix, else jsonl.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew instead of resuming.")] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Let a multimodal LLM order the candidates of earlier results; nothing is encoded again."""
    from recognizer.errors import RecognizerError
    from recognizer.reranking.file import earlier_settings, is_ranked, read_results, rerank_into, rerank_setup
    from recognizer.reranking.open import require_model
    from recognizer.results import check_output, is_finished, open_results
    from recognizer.settings import load_settings

    chosen: OutputFormat | None = format.value if format else None
    check_output(output, chosen)
    if output != "-" and Path(output).resolve() == results.resolve():
        raise RecognizerError(f"{results} cannot be its own output; name another file")
    earlier = read_results(results, images)
    base = earlier_settings(earlier, warn=note)
    settings = load_settings(
        config, [*(overrides or []), *rerank_overrides(rerank, rerank_model)], base=base, warn=note
    )
    if settings.rerank.when == "off":
        if rerank is Rerank.off:
            raise RecognizerError("there is nothing to do with --rerank off; say auto or always")
        always = settings.rerank.model_copy(update={"when": "always"})
        settings = settings.model_copy(update={"rerank": always})
    require_model(settings.rerank, max((len(row.candidates) for row in earlier.results), default=0))
    kept = sum(map(is_ranked, earlier.rows))
    if kept:
        note(f"{kept} rows have an MLLM's answer already and stay as they are")
    idle = not overwrite and is_finished(output, chosen)
    with (
        nullcontext() if idle else opened_reranker(settings) as reranker,
        open_results(
            output,
            keys=[row.path for row in earlier.rows],
            batch_size=settings.run.batch_size,
            setup=rerank_setup(earlier, settings, results),
            output_format=chosen,
            overwrite=overwrite,
        ) as sink,
    ):
        if sink.done_rows:
            note(f"{sink.done_rows} of {len(earlier.rows)} images were done before")
        if reranker is not None and sink.done_rows < len(earlier.rows):
            with progress_bar(len(earlier.rows), "img", "rerank") as advance:
                advance(sink.done_rows)
                for rows in rerank_into(earlier, settings, sink, reranker):
                    advance(len(rows))
        sink.finish()
    note(f"{len(earlier.rows)} rows; results in {output}")


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
    from recognizer.memory_settings import carried_settings
    from recognizer.recognizer import Recognizer
    from recognizer.settings import load_settings
    from recognizer.why import explain_image

    opened = Memory.open(memory)
    settings = load_settings(config, overrides or [], base=carried_settings(opened, warn=note), warn=note)
    explanation = explain_image(Recognizer.open(opened, settings=settings, device=device, precision=precision), image)
    for heading, rows in explanation.tables():
        print(table(heading, rows) + "\n")
    explanation.draw().save(output)
    print(f"picture: {output}")


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
