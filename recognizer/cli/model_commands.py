"""The command that lists encoders."""

from __future__ import annotations

from typing import Annotated

import typer

from recognizer.cli.app import app
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
