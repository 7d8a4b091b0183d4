"""A real HTTP server on 127.0.0.1 that answers chat completions as told, and fails as told.

    with FakeServer(Behaviour(obeys={"grammar"}, latency_s=0.05)) as server:
        ...ask server.url...
        assert len(server.chats) == 3

It sees: `picture(number)` draws a number below 256 as four grey blocks, the server reads it back from the image that
arrives, and answers with the option called `thing NUMBER`. So an answer that belongs to another image shows.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

Body = dict[str, Any]

FAULTS = (
    "timeout",
    "429",
    "500",
    "reset",
    "half json",
    "empty choices",
    "html",
    "wrong token",
    "huge",
    "drip",
    "cut",
    "nan",
)
"""`half json` is a complete HTTP reply with half a JSON text; `cut` closes the connection in the middle of the body."""
VOCABULARY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def picture(number: int) -> Image.Image:
    """Draw a number from 0 to 255: four digits in base 4 as grey blocks of 16 x 16, exact through JPEG."""
    image = Image.new("RGB", (32, 32))
    for place in range(4):
        grey = 85 * (number // 4**place % 4)
        image.paste(
            (grey, grey, grey), (16 * (place % 2), 16 * (place // 2), 16 * (place % 2) + 16, 16 * (place // 2) + 16)
        )
    return image


def seen_number(image: Image.Image) -> int:
    """Read what `picture` drew."""
    grey = image.convert("L").resize((32, 32))
    digits = [round(grey.getpixel((16 * (place % 2) + 8, 16 * (place // 2) + 8)) / 85) for place in range(4)]
    return sum(digit * 4**place for place, digit in enumerate(digits))


def image_url(body: Body) -> str:
    """Return the URL of the one image of a request."""
    parts = body["messages"][0]["content"]
    (url,) = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return str(url)


def image_of(body: Body) -> Image.Image:
    """Decode the one image of a request."""
    return Image.open(io.BytesIO(base64.b64decode(image_url(body).partition("base64,")[2])))


def text_of(body: Body) -> str:
    """Return the question of a request."""
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


def options_of(body: Body) -> dict[str, str]:
    """Return symbol to name, as the question lists them."""
    lines = re.findall(r'^([A-T]): ("(?:[^"\\]|\\.)*")', text_of(body), re.MULTILINE)
    return {symbol: json.loads(name) for symbol, name in lines}


def by_picture(body: Body) -> dict[str, float]:
    """Believe in the option `thing NUMBER` of the number seen with 0.9, in the others equally; no option: all alike."""
    options = options_of(body)
    truth = f"thing {seen_number(image_of(body))}"
    if truth not in options.values():
        return {symbol: math.log(0.9 / max(len(options), 1)) for symbol in options}
    other = 0.09 / max(len(options) - 1, 1)
    return {symbol: math.log(0.9 if name == truth else other) for symbol, name in options.items()}


def score_by_picture(body: Body) -> list[float]:
    """Score each document: 0.9 for `thing NUMBER` of the number seen, else 0.1."""
    query = body.get("query") or body["queries"]
    (url,) = [part["image_url"]["url"] for part in query["content"]]
    seen = seen_number(Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))))
    return [0.9 if text == f"thing {seen}" else 0.1 for text in body["documents"]]


def list_by_picture(body: Body) -> str:
    """Write the offered names as a list, the one seen first."""
    names = re.findall(r'"(thing \d+)"', text_of(body))
    truth = f"thing {seen_number(image_of(body))}"
    return str(sorted(names, key=lambda name: name != truth))


@dataclass
class Behaviour:
    """What the server does.

    Attributes:
        believes: log-probabilities of symbols, by request; symbols not given are very improbable.
        writes: how an unconstrained answer puts the most probable symbol, such as `"**{}**".format`.
        lists: the answer to a question without options.
        ranks: the endpoints of a reranker that it has, `/rerank` or `/score` or both; it then has no chat.
        scores: of the documents, by request.
        obeys: the fields that constrain: `structured_outputs`, `grammar`, `response_format`; others are ignored.
        rejects: the fields refused with a 400.
        refuses: the message, or the whole body, of a 400 by request; None: it is answered.
        logprobs: answers carry them when asked for.
        breaks_word: obeys when one symbol is forced (as a probe does) and not otherwise.
        latency_s: before each chat reply.
        fault: of the n-th chat request, from 0; None for none.
        models: as listed.
        key: what `Authorization: Bearer` must carry; None: anything.
        retry_after: header of a 429.
        redirects_to: what every request is sent to with a 307; None: nothing.
    """

    believes: Callable[[Body], Mapping[str, float]] = by_picture
    writes: Callable[[str], str] = str
    lists: Callable[[Body], str] = list_by_picture
    ranks: set[str] = field(default_factory=set)
    scores: Callable[[Body], list[float]] = score_by_picture
    obeys: set[str] = field(default_factory=lambda: {"structured_outputs"})
    rejects: set[str] = field(default_factory=set)
    refuses: Callable[[Body], str | Body | None] = lambda body: None
    logprobs: bool = True
    breaks_word: bool = False
    latency_s: float = 0.0
    fault: Callable[[int, Body], str | None] = lambda number, body: None
    models: list[str] = field(default_factory=lambda: ["fake", "other"])
    key: str | None = None
    retry_after: str | None = None
    redirects_to: str | None = None


class FakeServer:
    """Runs from entering to leaving; `url` is the base URL, `chats` the bodies of the chat requests, `paths` of all."""

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.chats: list[Body] = []
        self.paths: list[str] = []
        self.in_flight = self.most_in_flight = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FakeServer:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result()
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
                headers = {
                    key.strip().lower(): value.strip()
                    for key, value in (line.split(":", 1) for line in head.decode().split("\r\n")[1:] if ":" in line)
                }
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                self.paths.append(path)
                if not await self._reply(method, path, headers, json.loads(raw) if raw else {}, writer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _reply(
        self, method: str, path: str, headers: dict[str, str], body: Body, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False where the connection is to be closed."""
        behaviour = self.behaviour
        if behaviour.redirects_to is not None:
            place = behaviour.redirects_to + path.removeprefix("/v1")
            return await send(writer, 307, {}, {"Location": place})
        if behaviour.key is not None and headers.get("authorization") != f"Bearer {behaviour.key}":
            if path.endswith("/chat/completions"):
                self.chats.append(body)
            return await send(writer, 401, {"error": {"message": f"wrong key {headers.get('authorization')}"}})
        if path == "/v1/models":
            return await send(writer, 200, {"object": "list", "data": [{"id": name} for name in behaviour.models]})
        if path.removeprefix("/v1") in behaviour.ranks:
            self.chats.append(body)
            return await send(writer, *self._scored(path, body))
        if path != "/v1/chat/completions" or method != "POST" or behaviour.ranks:
            return await send(writer, 404, {"error": {"message": "no such route"}})
        number = len(self.chats)
        self.chats.append(body)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(behaviour.latency_s)
            fault = behaviour.fault(number, body)
            return await self._fail(fault, body, writer) if fault else await send(writer, *self._answer(body))
        finally:
            self.in_flight -= 1

    def _answer(self, body: Body) -> tuple[int, Body]:
        behaviour = self.behaviour
        if body["model"] not in behaviour.models:
            return 404, {"error": {"message": f"no model {body['model']}"}}
        if refused := behaviour.rejects & body.keys():
            return 400, {"error": {"message": f"unknown field {sorted(refused)}"}}
        if (refusal := behaviour.refuses(body)) is not None:
            return 400, refusal if isinstance(refusal, dict) else {"error": {"message": refusal}}
        if not options_of(body):
            return 200, completion(behaviour.lists(body))
        beliefs = dict.fromkeys(VOCABULARY, -18.0) | dict(behaviour.believes(body))
        allowed = self._allowed(body)
        symbol = max(allowed or beliefs, key=lambda symbol: beliefs[symbol])
        if allowed and "response_format" in body and "response_format" in behaviour.obeys:
            text, tokens = f'{{"answer": "{symbol}"}}', ['{"', "answer", '":', ' "', symbol, '"}']
        elif allowed:
            text, tokens = symbol, [symbol]
        else:
            text = behaviour.writes(symbol)
            limit = body.get("max_tokens") or body["max_completion_tokens"]
            tokens = re.findall(r"\s?\w+|\W", text)[:limit]
            text = "".join(tokens)
        logprobs = None
        if behaviour.logprobs and body.get("logprobs"):
            if allowed and "structured_outputs" in body:  # vLLM lists them after the constraint
                total = math.log(math.fsum(math.exp(beliefs[symbol]) for symbol in allowed))
                beliefs = {s: beliefs[s] - total if s in allowed else -9999.0 for s in beliefs}
            kept = sorted(beliefs, key=lambda symbol: -beliefs[symbol])[: body["top_logprobs"]]
            best = [listed(symbol, beliefs[symbol]) for symbol in kept]
            plain = [listed("x", -0.1), listed("y", -2.5)]
            logprobs = [
                listed(token, beliefs.get(token.strip(), -0.1))
                | {"top_logprobs": best if token.strip() == symbol else plain}
                for token in tokens
            ]
        return 200, completion(text, logprobs, generated=len(tokens))

    def _scored(self, path: str, body: Body) -> tuple[int, Body]:
        if (refusal := self.behaviour.refuses(body)) is not None:
            return 400, refusal if isinstance(refusal, dict) else {"error": {"message": refusal}}
        scores = list(enumerate(self.behaviour.scores(body)))
        usage = {"prompt_tokens": 40, "total_tokens": 40}
        if path.endswith("/score"):
            return 200, {"data": [{"index": index, "score": score} for index, score in scores], "usage": usage}
        best = sorted(scores, key=lambda pair: -pair[1])
        return 200, {"results": [{"index": i, "relevance_score": score} for i, score in best], "usage": usage}

    def _allowed(self, body: Body) -> list[str]:
        """Return the symbols a request is restricted to; empty for no restriction."""
        found: list[str] = []
        for key in self.behaviour.obeys & body.keys():
            if key == "structured_outputs":
                found = body[key]["choice"]
            elif key == "grammar":
                found = re.findall(r'"([A-Z])"', body[key])
            else:
                found = body[key]["json_schema"]["schema"]["properties"]["answer"]["enum"]
        return [] if self.behaviour.breaks_word and len(found) > 1 else found

    async def _fail(self, fault: str, body: Body, writer: asyncio.StreamWriter) -> bool:
        status, answer = self._answer(body)
        whole = json.dumps(answer).encode()
        if fault == "timeout":
            await asyncio.sleep(3600)
        if fault.isdigit():
            extra = {"Retry-After": self.behaviour.retry_after} if self.behaviour.retry_after else {}
            return await send(writer, int(fault), {"error": {"message": "not now"}}, extra)
        if fault == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # SO_LINGER of no seconds: closing sends a reset
            writer.transport.abort()
            return False
        if fault == "empty choices":
            return await send(writer, status, answer | {"choices": []})
        if fault == "wrong token":
            return await send(writer, status, completion("Z"))
        if fault == "nan":
            token = listed("A", 0.0) | {"top_logprobs": [listed("A", math.nan), listed("B", -1.0)]}
            return await send(writer, status, completion("A", [token]))
        raw = {
            "html": b"<!doctype html><html><body>Please log in</body></html>",
            "half json": whole[: len(whole) // 2],
            "huge": b'{"choices": [{"message": {"content": "' + b"A" * 10_000_000 + b'"}}]}',
        }.get(fault, whole)
        writer.write(
            f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
        )
        if fault == "drip":
            for byte in raw:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
        if fault == "cut":
            writer.write(raw[: len(raw) // 2])
            await writer.drain()
            return False
        writer.write(raw)
        await writer.drain()
        return True


async def send(writer: asyncio.StreamWriter, status: int, body: Body, headers: Mapping[str, str] | None = None) -> bool:
    """Send one JSON reply and keep the connection."""
    raw = json.dumps(body).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(raw)), **(headers or {})}
    head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines.items()) + "\r\n"
    writer.write(head.encode() + raw)
    await writer.drain()
    return True


def completion(text: str, logprobs: list[Body] | None = None, *, generated: int = 1) -> Body:
    """Build a chat completion."""
    return {
        "id": "chat-1",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
                "logprobs": None if logprobs is None else {"content": logprobs},
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": generated, "total_tokens": 100 + generated},
    }


def listed(token: str, logprob: float) -> Body:
    """Build one entry of a list of log-probabilities."""
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
