"""Commands that list and export encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recognizer.cli.app import app
from recognizer.cli.chosen_encoder import EncoderOfMemoryOption, ModelOption, PretrainedOption, load_chosen_encoder
from recognizer.cli.options import OUTPUT
from recognizer.console import note, show, table


@app.command()
def models(
    filter: Annotated[
        str, typer.Argument(help="Part of a name, an architecture or a tag, such as base, ViT-B-16 or openai.")
    ] = "",
) -> None:
    """List the encoders of open_clip, the best first: input size, accuracy, and whether the files are at hand.

    Example: recognizer models siglip2
    """
    from recognizer.encoder.named import NAMED
    from recognizer.encoder.open_clip.catalogue import list_offers

    offers = list_offers(filter)
    if not offers:
        raise typer.BadParameter(f"nothing is named like {filter!r}; without a filter all encoders are listed")
    rows = [
        [
            offer.name,
            offer.model,
            offer.tag,
            offer.pixels,
            "" if offer.accuracy is None else f"{offer.accuracy:.1f}",
            "yes" if offer.at_hand else "",
        ]
        for offer in offers
    ]
    show(table(["--model", "architecture", "--pretrained", "pixels", "ImageNet", "at hand"], rows))
    note(
        "ImageNet: zero-shot top-1 in per cent by open_clip's table, empty where it has none (of small, base and large "
        "their makers' figure); at hand: in the hub cache"
    )
    for name in sorted({offer.name for offer in offers} & NAMED.keys(), key=list(NAMED).index):
        note(str(NAMED[name]))


@app.command()
def export_onnx(
    output: Annotated[Path, typer.Option("--output", help="Folder for the ONNX files.", rich_help_panel=OUTPUT)],
    memory: EncoderOfMemoryOption = None,
    model: ModelOption = None,
    pretrained: PretrainedOption = None,
) -> None:
    """Write an encoder as ONNX files, which `build` and `run` compute with onnxruntime where --onnx names them.

    Example: recognizer export-onnx --model starter --output starter.onnx
    """
    from recognizer.encoder.onnx.export import export_onnx as write_onnx
    from recognizer.encoder.parts import EncoderParts

    encoder = load_chosen_encoder(memory, model, pretrained, device="cpu", precision="fp32")
    note(f"exporting {encoder.card.name} ...")
    assert isinstance(encoder.parts, EncoderParts)  # it was loaded on torch
    card = write_onnx(encoder.parts, output)
    note(f"{card.name}, fingerprint {card.fingerprint[:12]}, is in {output}; name it with --onnx")
