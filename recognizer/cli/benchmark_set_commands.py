"""Protocols on any labelled images: `few-shot`, `fine-grained`, `candidates` and `novel`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recognizer.cli.benchmark_commands import DataOption, JsonOption, SetsOption, benchmark, finish, opened_bench
from recognizer.cli.chosen_encoder import EncoderOfMemoryOption, ModelOption, PretrainedOption
from recognizer.cli.options import (
    INPUT,
    OUTPUT,
    SETTINGS,
    ConfigOption,
    DeviceOption,
    FeaturesOption,
    PrecisionOption,
    Rerank,
    RerankModelOption,
    SetOption,
)
from recognizer.cli.reranking import opened_reranker, require_answers, rerank_overrides
from recognizer.console import note

if TYPE_CHECKING:
    from recognizer.benchmark.bench import Bench
    from rerank.reranker import MllmReranker

SeedsOption = Annotated[
    int, typer.Option(min=1, help="Draws; figures are their mean, with its spread.", rich_help_panel=SETTINGS)
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(help="Label file with the names. Default: the images' labels.", rich_help_panel=INPUT),
]


@benchmark.command("few-shot")
def few_shot(
    data: DataOption,
    sets: SetsOption = None,
    json_file: JsonOption = None,
    shots: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Labelled images per class; repeatable. Default: 1, 2, 4, 8, 16.", rich_help_panel=SETTINGS
        ),
    ] = None,
    seeds: SeedsOption = 3,
    in_file_order: Annotated[
        bool,
        typer.Option("--in-file-order", help="Take the first images, as RAR does, once.", rich_help_panel=SETTINGS),
    ] = False,
    rerank_model: RerankModelOption = None,
    memory: EncoderOfMemoryOption = None,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """A few labelled images per class: zero-shot, RAR's nearest neighbour, each head, an MLLM's order, an oracle.

    DATA holds the usual data sets, or LABEL/IMAGE, or train and test with these; or it is a CSV file.

    Example: recognizer benchmark few-shot --data birds --shots 1 --shots 4

    Example: recognizer benchmark few-shot --data sets --sets DTD --sets Food101
    """
    from recognizer.benchmark.few_shot import SHOTS
    from recognizer.benchmark.few_shot import few_shot as run

    given = [*(overrides or []), *_reranking(rerank_model)]
    with (
        opened_bench(
            memory=memory,
            model=model,
            pretrained=pretrained,
            features=features,
            device=device,
            precision=precision,
            config=config,
            overrides=given,
        ) as bench,
        _reranker(bench) as reranker,
    ):
        table = run(
            bench,
            data,
            sets=sets or (),
            shots=shots or SHOTS,
            seeds=seeds,
            in_file_order=in_file_order,
            reranker=reranker,
        )
    finish(table, json_file)
    require_answers(reranker)


@benchmark.command("fine-grained")
def fine_grained(
    data: DataOption,
    sets: SetsOption = None,
    json_file: JsonOption = None,
    labels: LabelsOption = None,
    root: Annotated[
        str | None,
        typer.Option(
            help="What all classes are kinds of, such as bird: only its kinds are guessed. Default: every noun.",
            rich_help_panel=SETTINGS,
        ),
    ] = None,
    unlabelled: Annotated[
        int, typer.Option(min=1, help="Images per class from which names are guessed.", rich_help_panel=SETTINGS)
    ] = 3,
    seeds: SeedsOption = 3,
    mllm: Annotated[
        str | None,
        typer.Option(
            help="Also ask this multimodal LLM for names: a hub name, a directory, vllm:NAME, or the URL of an "
            "OpenAI-compatible server.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    memory: EncoderOfMemoryOption = None,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Names given, or guessed from a few unlabelled images: cACC (are classes told apart?), sACC (are names near?).

    DATA as for few-shot. Of Stanford Dogs give the folder Images, which holds LABEL/IMAGE.

    Example: recognizer benchmark fine-grained --data birds --root bird
    """
    from recognizer.benchmark.fine_grained import fine_grained as run
    from recognizer.reranking.open import open_writer

    given = [*(overrides or []), *([f"rerank.model={json.dumps(mllm)}"] if mllm else [])]
    with opened_bench(
        memory=memory,
        model=model,
        pretrained=pretrained,
        features=features,
        device=device,
        precision=precision,
        config=config,
        overrides=given,
    ) as bench:
        writer = open_writer(bench.settings.rerank, warn=note) if mllm else None
        try:
            table = run(
                bench,
                data,
                sets=sets or (),
                labels=labels,
                root=root,
                unlabelled=unlabelled,
                seeds=seeds,
                writer=writer,
            )
        finally:
            if writer is not None:
                writer.close()
                note(f"answers: {writer.counts.summary()}")
    finish(table, json_file)


@benchmark.command()
def candidates(
    data: DataOption,
    sets: SetsOption = None,
    json_file: JsonOption = None,
    sizes: Annotated[
        list[int] | None,
        typer.Option(
            "--candidates",
            min=1,
            help="Names to choose from, the true ones included; repeatable. Default: 200, 2,000, 20,000.",
            rich_help_panel=SETTINGS,
        ),
    ] = None,
    diagram: Annotated[
        Path | None, typer.Option(help="Draw the curve to this PNG file.", rich_help_panel=OUTPUT)
    ] = None,
    seeds: SeedsOption = 3,
    rerank_model: RerankModelOption = None,
    memory: EncoderOfMemoryOption = None,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Accuracy against the number of candidates: the true names among nouns of WordNet that mean something else.

    Example: recognizer benchmark candidates --data birds --diagram curve.png
    """
    from recognizer.benchmark.candidates import SIZES
    from recognizer.benchmark.candidates import candidates as run

    given = [*(overrides or []), *_reranking(rerank_model)]
    with (
        opened_bench(
            memory=memory,
            model=model,
            pretrained=pretrained,
            features=features,
            device=device,
            precision=precision,
            config=config,
            overrides=given,
        ) as bench,
        _reranker(bench) as reranker,
    ):
        table = run(bench, data, sets=sets or (), sizes=sizes or SIZES, seeds=seeds, reranker=reranker, diagram=diagram)
    finish(table, json_file)
    require_answers(reranker)


@benchmark.command()
def novel(
    data: DataOption,
    sets: SetsOption = None,
    json_file: JsonOption = None,
    labels: LabelsOption = None,
    shots: Annotated[int, typer.Option(min=0, help="Exemplars per class; 0 for none.", rich_help_panel=SETTINGS)] = 4,
    seeds: SeedsOption = 3,
    rerank_model: RerankModelOption = None,
    memory: EncoderOfMemoryOption = None,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
    features: FeaturesOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """New things with names: descriptions, regions, exemplars and an MLLM switched on in turn.

    Example: recognizer benchmark novel --data products --labels products.csv
    """
    from recognizer.benchmark.novel import novel as run

    given = [*(overrides or []), *_reranking(rerank_model)]
    with (
        opened_bench(
            memory=memory,
            model=model,
            pretrained=pretrained,
            features=features,
            device=device,
            precision=precision,
            config=config,
            overrides=given,
        ) as bench,
        _reranker(bench) as reranker,
    ):
        table = run(bench, data, sets=sets or (), labels=labels, shots=shots, seeds=seeds, reranker=reranker)
    finish(table, json_file)
    require_answers(reranker)


def _reranking(model: str | None) -> list[str]:
    """Write as overrides that every image is asked about, where a model is named."""
    return rerank_overrides(Rerank.always if model else None, model)


@contextmanager
def _reranker(bench: Bench) -> Iterator[MllmReranker | None]:
    """Open the MLLM that the settings name, if any."""
    from recognizer.reranking.open import require_model

    require_model(bench.settings.rerank, bench.settings.run.top_k)
    with opened_reranker(bench.settings) as reranker:
        yield reranker
