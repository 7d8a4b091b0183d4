"""The command that answers over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from recognizer.cli.app import app
from recognizer.cli.options import (
    HARDWARE,
    SERVER,
    ConfigOption,
    DeviceOption,
    MemoryOption,
    PrecisionOption,
    RerankModelOption,
    SetOption,
)
from recognizer.console import note, show


@app.command()
def serve(
    memory: MemoryOption,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is every network.", rich_help_panel=SERVER)
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.", rich_help_panel=SERVER)] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name under which clients reach the server, beside localhost and addresses; repeatable.",
            rich_help_panel=SERVER,
        ),
    ] = None,
    writable: Annotated[
        bool,
        typer.Option("--writable", help="Let requests change categories and exemplars.", rich_help_panel=SERVER),
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="RECOGNIZER_TOKEN",
            help="That requests must bear. The environment variable keeps it out of the list of processes. Default: "
            "none; with --writable, or beyond the loopback, one is made and printed.",
            rich_help_panel=SERVER,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Decoding processes; 0: one per core.", rich_help_panel=HARDWARE)
    ] = 0,
    rerank_model: RerankModelOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Answer over HTTP: POST images to /v1/recognize, or drop one on the page; /docs lists all.

    Example: recognizer serve --memory birds.memory

    Example: recognizer serve --memory birds.memory --host 0.0.0.0 --allow-host birds.example.org --writable
    """
    import importlib.util
    import os

    from recognizer.errors import RecognizerError

    if importlib.util.find_spec("fastapi_offline") is None:
        raise RecognizerError('serving needs more packages: pip install "recognizer[serve]"')
    from contextlib import ExitStack

    from memory import Memory
    from recognizer.cli.reranking import opened_reranker, rerank_overrides
    from recognizer.memory_settings import carried_settings
    from recognizer.recognizer import Recognizer
    from recognizer.serving.following import FollowedMemory
    from recognizer.serving.listening import address, is_everywhere, listen, needs_token, new_token
    from recognizer.serving.metrics import Metrics
    from recognizer.serving.server import make_app, make_server, run_server
    from recognizer.serving.service import Service
    from recognizer.settings import Settings, load_settings

    if token is None and (writable or needs_token(host)):
        token = new_token()
        note(f"token: {token}")
    asked = [*(overrides or []), *rerank_overrides(None, rerank_model)]

    def settings_of(opened: Memory) -> Settings:
        settings = load_settings(config, asked, base=carried_settings(opened, warn=note), warn=note)
        return settings.model_copy(update={"rerank": settings.rerank.model_copy(update={"when": "off"})})

    def open_recognizer(opened: Memory, before: Recognizer | None) -> Recognizer:
        settings = settings_of(opened)
        if before is not None and before.encoder.card.fingerprint == opened.encoder.fingerprint:
            return Recognizer(before.encoder, opened, settings=settings)
        return Recognizer.open(opened, settings=settings, device=device, precision=precision)

    listening = listen(host, port)  # before anything is loaded, for it may fail
    followed = FollowedMemory(memory, open_recognizer, note)
    settings = followed.current.recognizer.settings
    asking = settings.model_copy(
        update={"rerank": settings.rerank.model_copy(update={"when": "always" if rerank_model else "off"})}
    )
    with ExitStack() as stack:
        reranker = stack.enter_context(opened_reranker(asking))
        metrics = Metrics()
        service = Service(
            followed,
            most_waiting=settings.serve.queue,
            workers=workers or os.cpu_count() or 1,
            reranker=reranker,
            watch_batch=metrics.batches.observe,
        )
        at = address(host, listening.getsockname()[1])
        count = followed.current.memory.info().categories
        show(f"{at}/{'' if token is None else f'#token={token}'}")
        if is_everywhere(host):
            note(
                f"listening on all interfaces ({host}); from elsewhere, use an address of this machine, or a name that "
                "--allow-host lists"
            )
        note(f"{count} categories of {memory}; {at}/docs lists what can be asked; Ctrl-C stops")
        server = make_server(
            lambda stopping: make_app(
                service,
                settings=settings.serve,
                metrics=metrics,
                writable=writable,
                token=token,
                names=allow_host or (),
                stopping=stopping,
            ),
            settings.serve,
        )
        run_server(server, listening)
        note("stopped")
