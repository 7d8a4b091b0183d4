"""The command that reranks earlier results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memory.wording import counted
from recognizer.cli.app import app
from recognizer.cli.opened_output import format_name, opened_output, place_of, show_progress
from recognizer.cli.options import (
    INPUT,
    ConfigOption,
    FormatOption,
    OverwriteOption,
    Rerank,
    RerankModelOption,
    RerankOption,
    ResultsOption,
    SetOption,
    StrictOption,
)
from recognizer.cli.reranking import require_answers, rerank_overrides
from recognizer.console import note


@app.command("rerank")
def rerank_results(
    results: Annotated[Path, typer.Argument(help="Results of `run`: a file, or a folder of Parquet files.")],
    output: ResultsOption,
    format: FormatOption = None,
    overwrite: OverwriteOption = False,
    strict: StrictOption = False,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images, if it was moved after the run.", rich_help_panel=INPUT),
    ] = None,
    rerank: RerankOption = None,
    rerank_model: RerankModelOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Let a multimodal LLM order the candidates of earlier results; no image is encoded again.

    Without --rerank, and with none in --config, it is asked about every image.

    Example: recognizer rerank results.jsonl --output final.jsonl --rerank-model http://127.0.0.1:8000/v1
    """
    from recognizer.errors import RecognizerError
    from recognizer.hierarchy.rule import label_rule
    from recognizer.reranking.file import (
        earlier_settings,
        is_ranked,
        read_results,
        rerank_into,
        rerank_setup,
        stamp_row,
    )
    from recognizer.reranking.open import require_model
    from recognizer.results import check_output
    from recognizer.results.reading import open_stored
    from recognizer.settings import load_settings

    check_output(output, format_name(format))
    if output != "-" and open_stored(results).would_be_damaged_by(Path(output)):
        raise RecognizerError(f"{results} cannot be its own output; name another file")
    earlier = read_results(results, images)
    base = earlier_settings(earlier, warn=note)
    settings = load_settings(
        config, [*(overrides or []), *rerank_overrides(rerank, rerank_model)], base=base, warn=note
    )
    if settings.rerank.when == "off":
        if rerank is Rerank.off:
            raise RecognizerError("--rerank off leaves nothing to do; use auto or always")
        always = settings.rerank.model_copy(update={"when": "always"})
        settings = settings.model_copy(update={"rerank": always})
    label_rule(settings.score)
    require_model(settings.rerank, max((len(row.candidates) for row in earlier.results), default=0))
    ranked = sum(map(is_ranked, earlier.rows))
    if ranked:
        note(f"already reranked, and unchanged: {counted(ranked, 'row')}")
    keys = [row.key for row in earlier.rows]
    setup = rerank_setup(earlier, settings, results)
    with opened_output(
        output,
        keys,
        settings,
        setup,
        format,
        overwrite=overwrite,
        current_stamp=lambda number, _: stamp_row(earlier.rows[number]),
    ) as (sink, reranker):
        if reranker is not None and sink.done_rows < len(keys):
            show_progress(rerank_into(earlier, settings, sink, reranker), sink, len(keys), "rerank")
        sink.finish()
    note(f"{counted(len(keys), 'row')}; results {place_of(output)}")
    require_answers(reranker, strict=strict)
