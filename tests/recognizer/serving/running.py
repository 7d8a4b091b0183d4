"""A server in a thread of the test process, and what tests ask it."""

import socket
import threading
import time
from contextlib import contextmanager

import httpx2 as httpx

from recognizer import Recognizer
from recognizer.serving.following import FollowedMemory
from recognizer.serving.listening import listen
from recognizer.serving.metrics import Metrics
from recognizer.serving.server import make_app, make_server
from recognizer.serving.service import Service
from recognizer.serving.settings import ServeSettings


@contextmanager
def running(memory, encoder, *, workers=1, reranker=None, warn=print, **options):
    """Run a server over a memory; yields a client, the service and the server."""
    settings = options.pop("settings", ServeSettings())
    followed = FollowedMemory(memory, lambda opened, before: Recognizer(encoder, opened), warn)
    metrics = Metrics()
    service = Service(
        followed, most_waiting=settings.queue, workers=workers, reranker=reranker, watch_batch=metrics.batches.observe
    )
    server = make_server(
        lambda stopping: make_app(service, settings=settings, metrics=metrics, stopping=stopping, **options), settings
    )
    listening = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=60) as client:
            yield client, service, server
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def raw_request(client, data, *, seconds=10.0):
    """Send bytes as they are; return all that comes back until the server closes the connection."""
    address = client.base_url.host, client.base_url.port
    with socket.create_connection(address, timeout=seconds) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)
