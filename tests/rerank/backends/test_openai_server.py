import logging
import math
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from rerank.backends import image_data
from rerank.backends.dialects import JSON_SCHEMA, LLAMA_CPP, PLAIN, VLLM
from rerank.backends.image_requests import ImageRequests
from rerank.backends.openai_server import OpenAIServer
from rerank.backends.server_client import ServerClient
from rerank.base import Candidate
from rerank.mllm import SYMBOLS, Choice, ChoiceRequest, Failure, MllmUnavailable, Reply, WriteRequest
from rerank.prompt import choice_text, list_text
from tests.rerank.fake_server import (
    FAULTS,
    Behaviour,
    FakeServer,
    image_of,
    image_url,
    picture,
    seen_number,
    text_of,
)

KEY = "canary-key-7f3e9a"
# Long enough for a good answer on a busy machine, for only some faults have to wait that long.
SHORT_S = 1.0


def open_server(server, *, model="fake", concurrency=16, jpeg_quality=95, **options):
    """Open a client; `warn=LIST.append` collects its warnings."""
    client = ServerClient(server.url, **({"timeout_s": 5.0, "backoff_s": 0.01} | options))
    requests = ImageRequests(client, model=model, concurrency=concurrency, jpeg_quality=jpeg_quality)
    return OpenAIServer(requests)


@pytest.fixture
def opened():
    """Opens clients and closes them at the end."""
    clients = []

    def make(server, **options):
        clients.append(open_server(server, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def question(number, *, place=0, count=5, image=None):
    """Ask about the picture of a number, whose name stands in the given place of the options."""
    others = [f"thing {(number + 7 * step) % 256}" for step in range(1, count)]
    names = [*others[:place], f"thing {number}", *others[place:]]
    text = choice_text([Candidate(name) for name in names])
    return ChoiceRequest(picture(number) if image is None else image, text, SYMBOLS[:count])


def settled(mllm):
    """Ask one clean question, which finds the dialect."""
    (answer,) = mllm.choose([question(255, place=1)])
    assert isinstance(answer, Choice)
    assert answer.chosen == 1
    return mllm


def constraints(body):
    return [key for key in ("structured_outputs", "grammar", "response_format") if key in body]


DIALECTS = [
    # what the server obeys, the dialect found, chat requests up to the first answer
    ({"structured_outputs"}, VLLM, 3),
    ({"grammar"}, LLAMA_CPP, 4),
    ({"response_format"}, JSON_SCHEMA, 5),
    (set(), PLAIN, 4),
    ({"structured_outputs", "grammar", "response_format"}, VLLM, 3),
]


@pytest.mark.parametrize(("obeys", "dialect", "requests"), DIALECTS)
def test_each_dialect_is_probed_once_and_remembered(opened, obeys, dialect, requests):
    with FakeServer(Behaviour(obeys=obeys)) as server:
        mllm = settled(opened(server))
        assert mllm.dialect is dialect
        assert len(server.chats) == requests
        answers = mllm.choose([question(number, place=number % 5) for number in range(20)])
        assert [answer.chosen for answer in answers] == [number % 5 for number in range(20)]
        assert len(server.chats) == requests + 20
        assert {tuple(constraints(body)) for body in server.chats[requests:]} == {
            tuple(constraints(server.chats[requests - 1] if obeys else {}))
        }
        assert mllm.ignored == 0


@pytest.mark.parametrize("obeys", [obeys for obeys, *_ in DIALECTS])
def test_log_probabilities_are_the_servers_renormalised(opened, obeys):
    with FakeServer(Behaviour(obeys=obeys)) as server:
        for answer in settled(opened(server)).choose([question(3, place=2), question(3, place=4)]):
            expected = [math.log((0.9 if place == answer.chosen else 0.0225) / 0.99) for place in range(5)]
            assert answer.log_probs == pytest.approx(expected, abs=1e-9)


def test_a_server_without_log_probabilities_lets_the_rotations_vote(opened):
    with FakeServer(Behaviour(logprobs=False)) as server:
        (answer,) = settled(opened(server)).choose([question(9, place=3)])
        assert answer.log_probs is None
        assert answer.chosen == 3


@pytest.mark.parametrize("obeys", [{"structured_outputs"}, {"response_format"}, set()])
def test_a_server_that_refuses_logprobs_is_asked_without(opened, obeys):
    with FakeServer(Behaviour(obeys=obeys, rejects={"logprobs"})) as server:
        mllm = settled(opened(server))
        (answer,) = mllm.choose([question(9, place=3)])
        assert (answer.log_probs, answer.chosen) == (None, 3)
        assert ["logprobs" in body for body in server.chats] == [True] + [False] * (len(server.chats) - 1)


def test_a_server_that_refuses_unknown_fields_gets_the_next_dialect(opened):
    with FakeServer(Behaviour(obeys={"response_format"}, rejects={"structured_outputs", "grammar"})) as server:
        mllm = settled(opened(server))
        assert mllm.dialect is JSON_SCHEMA
        assert len(server.chats) == 5
        assert constraints(server.chats[-1]) == ["response_format"]


@pytest.mark.parametrize("written", ["{}.", " {})", "**{}**", '{{"answer": "{}"}}', "The answer is {}"])
def test_unconstrained_prose_is_read(opened, written):
    with FakeServer(Behaviour(obeys=set(), writes=written.format)) as server:
        mllm = settled(opened(server))
        assert mllm.dialect is PLAIN
        answers = mllm.choose([question(number, place=number) for number in range(5)])
        assert [answer.chosen for answer in answers] == list(range(5))


def test_the_probe_proves_obedience_and_does_not_trust_a_right_answer(opened):
    """A server that answers `E` anyway, whatever it is asked for."""
    last = Behaviour(obeys=set(), believes=lambda body: {"E": -0.1})
    with FakeServer(last) as server:
        mllm = opened(server)
        (answer,) = mllm.choose([question(1, place=4)])
        assert mllm.dialect is PLAIN
        assert answer.chosen == 4
        assert [constraints(body) for body in server.chats[1:]] == [
            ["structured_outputs"],
            ["grammar"],
            ["response_format"],
        ]


def test_a_server_that_forgets_the_constraint_later_is_noticed(opened):
    with FakeServer(Behaviour(writes="The answer is {}".format)) as server:
        mllm = settled(opened(server))
        assert mllm.dialect is VLLM
        server.behaviour.obeys = set()
        (answer,) = mllm.choose([question(1)])
        assert answer.status.startswith("unreadable: 'The' is not one of the options")
        assert mllm.ignored == 1
        server.behaviour.obeys = {"structured_outputs"}
        assert mllm.choose([question(1)])[0].chosen == 0
        assert mllm.ignored == 1


@pytest.mark.parametrize(("obeys", "spread"), [("structured_outputs", 19), ("grammar", 13)])
def test_symbols_that_are_not_listed_share_the_smallest(opened, obeys, spread):
    """Beliefs so small that six other tokens stand before them: vLLM masks these, llama.cpp lists 14 options of 20."""
    small = {symbol: -20.0 - place for place, symbol in enumerate(SYMBOLS)}
    loud = Behaviour(believes=lambda body: dict.fromkeys("UVWXYZ", -1.9) | small, obeys={obeys})
    with FakeServer(loud) as server:
        (answer,) = opened(server).choose([question(1, count=20)])
        assert answer.chosen == 0
        assert answer.log_probs[0] - answer.log_probs[19] == pytest.approx(spread)


def test_the_request_is_one_user_message_with_the_image_first(opened):
    with FakeServer() as server:
        request = question(77)
        opened(server).choose([request])
        for body in server.chats:
            (message,) = body["messages"]
            assert message["role"] == "user"
            assert [part["type"] for part in message["content"]] == ["image_url", "text"]
            assert image_url(body).startswith("data:image/jpeg;base64,")
            assert text_of(body) == request.text
            assert body["temperature"] == 0
            assert body["top_logprobs"] == 20
        assert server.chats[-1]["max_tokens"] == 1
        assert server.chats[-1]["structured_outputs"] == {"choice": ["A", "B", "C", "D", "E"]}


def test_png_keeps_every_pixel(opened):
    noise = picture(1).resize((8, 8))
    noise.putdata([(random.Random(place).randrange(256), place, 255 - place) for place in range(64)])
    with FakeServer() as server:
        opened(server, jpeg_quality=None).write([WriteRequest(noise, "what?", 5)])
        assert image_url(server.chats[0]).startswith("data:image/png;base64,")
        assert image_of(server.chats[0]).tobytes() == noise.tobytes()


def test_rotations_share_one_encoding(opened, monkeypatch):
    encoded = []
    original = image_data.data_url
    monkeypatch.setattr(
        image_data, "data_url", lambda image, quality: encoded.append(image) or original(image, quality)
    )
    with FakeServer() as server:
        first, second = picture(1), picture(2)
        requests = [
            question(number, place=place, image=image)
            for place in range(5)
            for number, image in ((1, first), (2, second))
        ]
        answers = opened(server).choose(requests)
        assert [answer.chosen for answer in answers] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert sorted(map(id, encoded)) == sorted((id(first), id(second)))


def test_an_image_that_cannot_be_encoded_fails_alone(opened):
    class Broken:
        mode = "RGB"

        def save(self, *_, **__):
            raise OSError("image file is truncated")

    with FakeServer() as server:
        good, bad = question(5, place=1), question(5, image=Broken())
        answers = settled(opened(server)).choose([bad, good, bad])
        assert answers == [Failure("unreadable: the image cannot be encoded"), answers[1], answers[0]]
        assert answers[1].chosen == 1


def test_lists_are_written(opened):
    with FakeServer() as server:
        candidates = [Candidate("thing 4"), Candidate("thing 8")]
        (reply,) = opened(server).write([WriteRequest(picture(8), list_text(candidates), 50)])
        assert reply == Reply("['thing 8', 'thing 4']", reply.usage)
        assert (reply.usage.prompt_tokens, reply.usage.generated_tokens) == (100, 1)
        assert server.chats[0]["max_tokens"] == 50
        assert "logprobs" not in server.chats[0]
        assert not constraints(server.chats[0])


def test_tokens_are_counted(opened):
    with FakeServer() as server:
        (answer,) = settled(opened(server)).choose([question(1)])
        assert (answer.usage.prompt_tokens, answer.usage.generated_tokens) == (100, 1)


def test_nothing_asked_nothing_sent(opened):
    with FakeServer() as server:
        mllm = opened(server)
        assert mllm.choose([]) == mllm.write([]) == []
        assert server.paths == []


# Faults

STATUSES = {
    "timeout": "timeout",
    "429": "unreachable",
    "500": "unreachable",
    "reset": "unreachable",
    "cut": "unreachable",
    "half json": "unreadable: broken JSON: ",
    "empty choices": "unreadable: empty choices",
    "html": "unreadable: a web page, not JSON: ",
    "wrong token": "unreadable: 'Z' is not one of the options",
    "huge": "unreadable: more than 100000 bytes",
    "drip": "timeout",
    "nan": "unreadable: log-probability 'nan'",
}
RETRIED = {"429", "500", "reset", "cut"}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_status_and_ends(opened, fault):
    with FakeServer() as server:
        mllm = settled(opened(server, timeout_s=SHORT_S, most_reply_bytes=100_000))
        before = len(server.chats)
        server.behaviour.fault = lambda number, body: fault
        (answer,) = mllm.choose([question(1)])
        assert answer.status.startswith(STATUSES[fault])
        assert answer.status.isprintable()
        assert len(answer.status) < 130
        assert not answer.hopeless
        assert len(server.chats) - before == (3 if fault in RETRIED else 1)
        server.behaviour.fault = lambda number, body: None
        assert mllm.choose([question(1, place=2)])[0].chosen == 2


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("wrong token", "nan")])
def test_a_fault_at_the_first_request_leaves_the_dialect_open(opened, fault):
    with FakeServer(Behaviour(fault=lambda number, body: fault)) as server:
        mllm = opened(server, timeout_s=SHORT_S, most_reply_bytes=100_000)
        (answer,) = mllm.choose([question(1)])
        assert answer.status.startswith(STATUSES[fault])
        assert mllm.dialect is None
        server.behaviour.fault = lambda number, body: None
        assert mllm.choose([question(1, place=2)])[0].chosen == 2
        assert mllm.dialect is VLLM


def test_lists_fail_as_choices_do(opened):
    with FakeServer(Behaviour(fault=lambda number, body: "500")) as server:
        (answer,) = opened(server).write([WriteRequest(picture(1), "what?", 5)])
        assert answer == Failure("unreachable")
        assert len(server.chats) == 3


@pytest.mark.parametrize("retry_after", [None, "0", "Sun, 06 Nov 1994 08:49:37 GMT", "nonsense"])
def test_429_twice_then_an_answer(opened, retry_after):
    with FakeServer(Behaviour(retry_after=retry_after)) as server:
        mllm = settled(opened(server))
        before = len(server.chats)
        server.behaviour.fault = lambda number, body: "429" if number < before + 2 else None
        (answer,) = mllm.choose([question(1, place=3)])
        assert answer.chosen == 3
        assert len(server.chats) == before + 3


def test_retry_after_is_honoured(opened):
    with FakeServer(Behaviour(retry_after="0.3")) as server:
        mllm = settled(opened(server))
        before = len(server.chats)
        server.behaviour.fault = lambda number, body: "429" if number == before else None
        start = time.monotonic()
        assert mllm.choose([question(1)])[0].chosen == 0
        assert time.monotonic() - start >= 0.3


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(opened):
    with FakeServer(Behaviour(retry_after="3600")) as server:
        mllm = settled(opened(server, timeout_s=SHORT_S))
        before = len(server.chats)
        server.behaviour.fault = lambda number, body: "429"
        assert mllm.choose([question(1)]) == [Failure("unreachable")]
        assert len(server.chats) == before + 1


def test_the_deadline_holds_over_all_attempts(opened):
    with FakeServer() as server:
        mllm = settled(opened(server, retries=1000, deadline_s=1.0))
        before = len(server.chats)
        server.behaviour.fault = lambda number, body: "500"
        (answer,) = mllm.choose([question(1)])
        assert answer.status in ("unreachable", "timeout")  # whether it ends in a wait or in an attempt
        assert 2 < len(server.chats) - before < 20  # waits double from 10 ms up


def test_200_mixed_faults_lose_nothing_and_mix_nothing_up(opened):
    """Ten kinds, half of them lasting: each request gets the answer of its own image, or the status of its fault."""
    kinds = [fault for fault in FAULTS if fault not in ("cut", "nan")]
    asked = Counter()

    def fault(_, body):
        number = seen_number(image_of(body))
        asked[number] += 1
        lasting = number // 10 % 2 == 0
        return kinds[number % 10] if number < 200 and (lasting or asked[number] == 1) else None

    with FakeServer(Behaviour(fault=fault)) as server:
        # All the faults that wait do so at once.
        mllm = settled(opened(server, concurrency=48, timeout_s=2 * SHORT_S, most_reply_bytes=100_000))
        answers = mllm.choose([question(number, place=number % 5) for number in range(200)])
    assert len(answers) == 200
    exact = 0
    for number, answer in enumerate(answers):
        kind = kinds[number % 10]
        if number // 10 % 2 == 1 and kind in RETRIED and isinstance(answer, Choice):
            assert answer.chosen == number % 5
            assert asked[number] == 2
            exact += 1
        else:
            assert isinstance(answer, Failure)
            # On a busy machine any request may time out; the status of each fault has a test of its own above.
            assert answer.status.startswith((STATUSES[kind], "timeout"))
            exact += answer.status.startswith(STATUSES[kind])
    assert exact > 100


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_hopeless_refusal_is_one_request(opened, code):
    with FakeServer(Behaviour(fault=lambda number, body: str(code))) as server:
        mllm = opened(server)
        found = mllm.choose([question(number) for number in range(50)])
        assert found == [Failure("refused", hopeless=True)] * 50
        assert f"HTTP {code}" in found[0].hint
        assert mllm.write([WriteRequest(picture(1), "what?", 5)]) == [Failure("refused", hopeless=True)]
        assert len(server.chats) == 1


def test_a_busy_server_is_asked_again_for_its_dialect(opened):
    """429 to everything but the first plain question says nothing of what the server can do."""
    with FakeServer(Behaviour(fault=lambda number, body: "429" if 1 <= number <= 2 else None)) as server:
        mllm = opened(server, retries=1)
        assert mllm.choose([question(1)])[0].status == "unreachable"
        assert mllm.dialect is None
        assert mllm.choose([question(2)])[0].chosen == 0
        assert mllm.dialect is VLLM


def test_a_field_that_a_router_does_not_find_condemns_neither_key_nor_model(opened):
    with FakeServer(
        Behaviour(obeys={"grammar"}, fault=lambda number, body: "404" if "structured_outputs" in body else None)
    ) as server:
        mllm = opened(server)
        assert [answer.chosen for answer in mllm.choose([question(n, place=n % 5) for n in range(10)])] == [
            n % 5 for n in range(10)
        ]
        assert mllm.dialect is LLAMA_CPP


@pytest.mark.parametrize("rejects", [set(), {"logprobs"}])
def test_a_server_that_ignores_or_refuses_fields_is_said_once(opened, rejects):
    warnings = []
    with FakeServer(Behaviour(obeys=set(), logprobs=False, rejects=rejects)) as server:
        opened(server, warn=warnings.append).choose([question(n) for n in range(5)])
    assert warnings == [
        f"fake at {server.url} ignores every way to restrict an answer; it is only asked for one letter",
        f"fake at {server.url} gives no log-probabilities; the rotations of the options vote instead",
    ]


# Refusals


NEWER = {
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'.",
    "temperature": "Unsupported value: 'temperature' does not support 0 with this model.",
}


def test_a_model_that_takes_neither_max_tokens_nor_a_temperature_is_asked_without(opened):
    """As OpenAI's newer models."""
    refuse = Behaviour(refuses=lambda body: next((text for key, text in NEWER.items() if key in body), None))
    with FakeServer(refuse) as server:
        mllm = opened(server)
        answers = mllm.choose([question(number, place=number % 5) for number in range(10)])
        assert [answer.chosen for answer in answers] == [number % 5 for number in range(10)]
        assert answers[0].log_probs is not None
        (reply,) = mllm.write([WriteRequest(picture(8), list_text([Candidate("thing 4"), Candidate("thing 8")]), 50)])
        assert reply.text == "['thing 8', 'thing 4']"
        assert server.chats[-1]["max_completion_tokens"] == 50
        refused = [body for body in server.chats if body.keys() & NEWER.keys()]
        assert len(refused) == 2  # each field once; the first question goes alone


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 1024 tokens. However, your prompt has 2000 input tokens.",
        "The decoder prompt (length 2100) is longer than the maximum model length of 1024.",
        "the request exceeds the available context size, try increasing it",
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
        "prompt is too long: 210000 tokens > 200000 maximum",
    ],
)
def test_a_prompt_that_is_too_long_is_sent_with_a_smaller_image(opened, message):
    warnings = []
    large = Behaviour(refuses=lambda body: message if max(image_of(body).size) > 300 else None)
    with FakeServer(large) as server:
        mllm = opened(server, warn=warnings.append)
        big = picture(7).resize((1000, 1000), 0)
        answers = mllm.choose([question(7, place=place, image=big) for place in range(5)])
        assert [answer.chosen for answer in answers] == [0, 1, 2, 3, 4]
        assert {image_of(body).size for body in server.chats} == {(1000, 1000), (500, 500), (250, 250)}
        assert mllm.choose([question(3, place=1)])[0].chosen == 1
    assert len(warnings) == 1
    assert "half the size" in warnings[0]
    assert message.split(". ")[0] in warnings[0]


def test_a_prompt_that_no_image_makes_short_enough_fails_alone(opened):
    long = Behaviour(refuses=lambda body: "maximum context length" if "thing 7" in text_of(body) else None)
    with FakeServer(long) as server:
        mllm = opened(server)
        found = mllm.choose([question(7, image=picture(7).resize((600, 300), 0))] * 4 + [question(40, place=2)])
        assert found[:4] == [Failure("refused")] * 4
        assert found[4].chosen == 2


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ({"error": {"message": "The image is broken. Send another."}}, 'HTTP 400: "The image is broken."'),
        ({"error": "no vision"}, 'HTTP 400: "no vision"'),
        ({"detail": [{"msg": "Field required"}]}, 'HTTP 400: "Field required"'),
        ({}, "HTTP 400"),
        (
            {"error": {"message": "No api key passed in."}},
            'HTTP 400: "No api key passed in."; is a key needed? MINE is not set',
        ),
    ],
)
def test_the_first_sentence_of_a_refusal_is_the_hint(opened, monkeypatch, body, hint):
    monkeypatch.delenv("MINE", raising=False)
    with FakeServer(Behaviour(refuses=lambda _: body)) as server:
        (answer,) = opened(server, api_key_env="MINE").choose([question(1)])
    assert (answer.status, answer.hint, answer.code) == ("refused", hint, 400)


@pytest.mark.parametrize("key", ["token", "logprob", "usage"])
def test_a_key_that_is_a_word_of_the_protocol_changes_no_answer(opened, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with FakeServer() as server:
        answer = opened(server).choose([question(3, place=2)])[0]
    assert answer.chosen == 2
    assert answer.log_probs is not None
    assert answer.usage.prompt_tokens > 0


def test_a_plain_refusal_is_not_hopeless(opened):
    with FakeServer() as server:
        mllm = settled(opened(server))
        before = len(server.chats)
        server.behaviour.fault = lambda number, body: "400"
        assert mllm.choose([question(1)]) == [Failure("refused")]
        assert len(server.chats) == before + 1


def test_a_dead_server_does_not_keep_everybody_waiting_in_turn(opened):
    """300 requests, a server that never answers: three probes, not three hundred."""
    with FakeServer(Behaviour(fault=lambda number, body: "timeout")) as server:
        mllm = opened(server, timeout_s=SHORT_S)
        assert mllm.choose([question(number % 256) for number in range(300)]) == [Failure("timeout")] * 300
        assert len(server.chats) == 3


def test_nobody_listens(opened):
    with FakeServer() as server:
        pass
    mllm = opened(server)
    assert mllm.choose([question(1)] * 3) == [Failure("unreachable")] * 3
    assert mllm.write([WriteRequest(picture(1), "what?", 5)]) == [Failure("unreachable")]


# Secrets


@pytest.mark.parametrize("fault", [None, "401", "500", "html", "half json", "wrong token", "cut", "timeout"])
def test_the_key_is_sent_and_shown_nowhere(opened, monkeypatch, caplog, fault):
    monkeypatch.setenv("CANARY", KEY)
    caplog.set_level(logging.DEBUG)
    with FakeServer(Behaviour(key=KEY)) as server:
        mllm = settled(opened(server, api_key_env="CANARY", timeout_s=SHORT_S, most_reply_bytes=100_000))
        server.behaviour.fault = lambda number, body: fault
        answers = [*mllm.choose([question(1)]), *mllm.write([WriteRequest(picture(1), "what?", 5)])]
        assert KEY not in repr([mllm, mllm.name, mllm.identity, answers])
    assert KEY not in caplog.text


def test_a_reply_that_quotes_the_key_is_redacted(opened, monkeypatch):
    monkeypatch.setenv("CANARY", KEY)
    with FakeServer(Behaviour(lists=lambda body: f"your key is {KEY}")) as server:
        mllm = opened(server, api_key_env="CANARY")
        (reply,) = mllm.write([WriteRequest(picture(1), "what?", 5)])
        assert reply.text == "your key is ***"


def test_without_a_key_a_placeholder_is_sent(opened, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with FakeServer(Behaviour(key="none")) as server:
        settled(opened(server))


# Opening and closing


def test_the_first_model_listed_is_taken(opened):
    with FakeServer() as server:
        mllm = opened(server, model=None)
        assert mllm.name == f"fake at {server.url}"
        assert mllm.identity == f"{server.url} fake jpeg 95"
        assert repr(mllm) == f"OpenAIServer(fake at {server.url})"
        settled(mllm)
        assert {body["model"] for body in server.chats} == {"fake"}


def test_the_identity_tells_servers_models_and_encodings_apart(opened):
    with FakeServer() as server:
        options = [{}, {"model": "other"}, {"jpeg_quality": 80}, {"jpeg_quality": None}]
        assert len({opened(server, **one).identity for one in options}) == 4
        assert opened(server).identity == opened(server).identity
        assert server.paths == []


def test_no_model_listed():
    with FakeServer(Behaviour(models=[])) as server, pytest.raises(MllmUnavailable, match="lists no model"):
        open_server(server, model=None)


@pytest.mark.parametrize("name", ["m\x1b[2J", "m\nforged line", "m\u202e", "m" * 3000, "\ud800"])
def test_a_listed_name_that_cannot_be_shown_is_refused(name):
    with (
        FakeServer(Behaviour(models=[name])) as server,
        pytest.raises(MllmUnavailable, match="whose name is too long or cannot be printed") as caught,
    ):
        open_server(server, model=None)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_redirect_is_not_followed_and_said(opened):
    with FakeServer() as elsewhere, FakeServer(Behaviour(redirects_to=elsewhere.url)) as server:
        mllm = opened(server, retries=1)
        answers = mllm.choose([question(number) for number in range(3)])
        lists = mllm.write([WriteRequest(picture(1), "order", 5)])
        with pytest.raises(MllmUnavailable, match=r"HTTP 307; it redirects to another address"):
            open_server(server, model=None)
    assert elsewhere.paths == []
    for answer in (*answers, *lists):
        assert isinstance(answer, Failure)
        assert answer.status == "refused"
        assert answer.hint.startswith("HTTP 307; it redirects to another address, which is not followed")


def test_models_are_not_listed_without_the_key(monkeypatch):
    monkeypatch.delenv("MINE", raising=False)
    with (
        FakeServer(Behaviour(key=KEY)) as server,
        pytest.raises(MllmUnavailable, match=r"HTTP 401: .*; is a key needed\? MINE is not set"),
    ):
        open_server(server, model=None, api_key_env="MINE")


def test_no_server_at_all():
    with FakeServer() as server:
        pass
    with pytest.raises(MllmUnavailable, match="does not answer"):
        open_server(server, model=None)


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        (ServerClient, {"timeout_s": 0}),
        (ServerClient, {"retries": -1}),
        (ServerClient, {"most_reply_bytes": 0}),
        (ImageRequests, {"concurrency": 0}),
        (ImageRequests, {"jpeg_quality": 101}),
    ],
)
def test_numbers_out_of_range_are_refused(kind, option):
    address = "http://host/v1"
    with pytest.raises(ValueError, match=next(iter(option))):
        kind(address if kind is ServerClient else ServerClient(address), **option)


def test_closing_ends_the_thread_and_what_is_in_flight():
    with FakeServer() as server:
        before = threading.active_count()
        mllm = settled(open_server(server))
        server.behaviour.latency_s = 30
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(mllm.choose, [question(1)])
            while not server.in_flight:
                time.sleep(0.01)
            mllm.close()
            with pytest.raises(RuntimeError, match="closed while"):
                asked.result(timeout=5)
        mllm.close()
        with pytest.raises(RuntimeError, match="closed"):
            mllm.choose([question(1)])
        assert threading.active_count() == before


# Concurrency


def test_several_threads_share_the_limit_and_get_their_own_answers(opened):
    with FakeServer(Behaviour(latency_s=0.02)) as server:
        mllm = opened(server, concurrency=4)
        groups = [[question(8 * thread + number, place=thread % 5) for number in range(8)] for thread in range(8)]
        with ThreadPoolExecutor(8) as pool:
            for thread, answers in enumerate(pool.map(mllm.choose, groups)):
                assert [answer.chosen for answer in answers] == [thread % 5] * 8
        assert len(server.chats) == 64 + 2  # one probe, whoever came first
        assert server.most_in_flight == 4


def test_the_first_request_is_alone(opened):
    with FakeServer(Behaviour(latency_s=0.2)) as server:
        mllm = opened(server)
        alone = []
        server.behaviour.fault = lambda number, body: alone.append(server.in_flight)
        mllm.choose([question(number) for number in range(16)])
        assert alone[:3] == [1, 1, 1]
        assert max(alone) > 8


@pytest.mark.timing
def test_throughput_is_near_what_latency_allows(opened):
    """A latency long against the work per request, so that a busy machine passes; the benchmark has 50 ms."""
    with FakeServer(Behaviour(latency_s=0.4)) as server:
        mllm = settled(opened(server, concurrency=16))
        requests = [question(number) for number in range(160)]
        rate = 0.0
        for _ in range(3):
            start = time.perf_counter()
            answers = mllm.choose(requests)
            rate = max(rate, len(answers) / (time.perf_counter() - start))
            if rate >= 0.8 * 16 / 0.4:
                break
        assert [answer.chosen for answer in answers] == [0] * 160
        assert server.most_in_flight == 16
        assert rate >= 0.8 * 16 / 0.4


SCHEMA = {"type": "object", "properties": {"answer": {"type": "array", "items": {"type": "string"}}}}


def write_requests(count):
    return [WriteRequest(None, f"what about {number}?", 5, SCHEMA) for number in range(count)]


def test_text_alone_is_a_string_and_a_schema_reaches_the_server(opened):
    with FakeServer(Behaviour(lists=text_of)) as server:
        replies = opened(server).write(write_requests(3))
    assert [reply.text for reply in replies] == [f"what about {number}?" for number in range(3)]
    assert {type(body["messages"][0]["content"]) for body in server.chats} == {str}
    assert [body["response_format"]["json_schema"]["schema"] for body in server.chats] == [SCHEMA] * 3


def test_texts_with_and_without_an_image_go_in_one_call(opened):
    with FakeServer(Behaviour(lists=lambda body: str(len(body["messages"][0]["content"])))) as server:
        mllm = opened(server)
        replies = mllm.write([WriteRequest(picture(1), "what?", 5), WriteRequest(None, "what?", 5)])
    assert [reply.text for reply in replies] == ["2", "5"]  # parts of a message; characters of a string


def test_a_refused_schema_is_left_out_from_then_on(opened):
    warnings = []
    with FakeServer(Behaviour(lists=text_of, rejects={"response_format"})) as server:
        mllm = opened(server, concurrency=1, warn=warnings.append)
        assert all(isinstance(reply, Reply) for reply in mllm.write(write_requests(3)))
        assert mllm.write(write_requests(1))[0].text == "what about 0?"
    assert ["response_format" in body for body in server.chats] == [True, False, False, False, False]
    assert len(warnings) == 1
    assert "refuses JSON schemas" in warnings[0]


@pytest.mark.parametrize("fault", ["timeout", "429", "reset"])
def test_a_server_that_is_away_says_nothing_about_schemas(opened, fault):
    with FakeServer(Behaviour(lists=text_of, fault=lambda number, body: fault if number == 0 else None)) as server:
        mllm = opened(server, concurrency=1, retries=0, timeout_s=SHORT_S)
        first, second = mllm.write(write_requests(2))
    assert first.status in ("timeout", "unreachable")
    assert second.text == "what about 1?"
    assert ["response_format" in body for body in server.chats] == [True, True]


def test_a_refusal_of_the_whole_request_says_nothing_about_schemas(opened):
    def refuses(body):
        return "no such words" if "about 0" in text_of(body) else None

    with FakeServer(Behaviour(lists=text_of, refuses=refuses)) as server:
        first, second = opened(server, concurrency=1).write(write_requests(2))
    assert first == Failure("refused", hint='HTTP 400: "no such words"', code=400)
    assert second.text == "what about 1?"
    assert ["response_format" in body for body in server.chats] == [True, False, True]


def test_a_text_that_is_too_long_fails_alone(opened):
    with FakeServer(Behaviour(lists=text_of, refuses=lambda body: "the prompt is too long")) as server:
        (reply,) = opened(server).write(write_requests(1))
    assert reply.status == "refused"
    assert len(server.chats) == 1
