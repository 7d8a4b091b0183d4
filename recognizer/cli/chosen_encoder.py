"""The encoder of a command: that of a memory, the one that `--model` names, or the default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from recognizer.cli.options import ENCODER
from recognizer.console import note

if TYPE_CHECKING:
    from recognizer.encoder import Encoder

EncoderOfMemoryOption = Annotated[
    str | None, typer.Option("--memory", help="Take the encoder of this memory.", rich_help_panel=ENCODER)
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Encoder, as for `build`. Default: as for a new memory.", rich_help_panel=ENCODER),
]
PretrainedOption = Annotated[
    str | None, typer.Option("--pretrained", help="Weights, as for `build`.", rich_help_panel=ENCODER)
]


def load_chosen_encoder(
    memory: str | None, model: str | None, pretrained: str | None, *, device: str, precision: str
) -> Encoder:
    """Load the encoder of a memory, the one that is named, or the default, and say which it is.

    Raises:
        RecognizerError: a memory and an encoder are named.
    """
    from recognizer.building import explain_encoder, load_default_encoder
    from recognizer.encoder import Encoder
    from recognizer.errors import RecognizerError

    if memory is not None:
        if model is not None or pretrained is not None:
            raise RecognizerError("--memory names the encoder already; leave --model and --pretrained out")
        from memory import Memory

        return Encoder.from_spec(Memory.open(memory).encoder.spec, device=device, precision=precision)
    if model is None and pretrained is None:
        encoder, sentence = load_default_encoder(device=device, precision=precision)
        note(sentence)
        return encoder
    encoder = Encoder.load(model or "starter", pretrained, device=device, precision=precision)
    for sentence in explain_encoder(encoder):
        note(sentence)
    return encoder
