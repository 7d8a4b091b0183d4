"""Many copies of one model: how requests are shared, and descriptions that copies on a real Ray write."""

import json
import warnings
from contextlib import ExitStack, closing

import pytest

from recognizer.engine.mllm import Answering, ManyMllms, count_copies
from recognizer.settings import RerankSettings
from rerank.mllm import WriteRequest
from tests.recognizer.commands import call
from tests.rerank.fake_server import Behaviour, FakeServer, text_of


@pytest.mark.parametrize(
    ("model", "nodes", "expected"),
    [
        ("http://127.0.0.1:8000/v1", [{"CPU": 2, "GPU": 8}, {"CPU": 2}], (2, 0)),
        ("vllm:some/model", [{"CPU": 2, "GPU": 8}, {"GPU": 5}], (6, 2)),
        ("some/model", [{"CPU": 2, "GPU": 8}, {"GPU": 5}], (13, 1)),
        ("some/model", [{"CPU": 2}], (1, 0)),
    ],
)
def test_a_model_has_a_copy_for_its_gpus_and_a_server_a_client_on_each_machine(model, nodes, expected):
    assert count_copies(RerankSettings(model=model, tensor_parallel_size=2), nodes) == expected


@pytest.mark.parametrize(("requests", "shares"), [(0, []), (1, [1]), (3, [1, 1, 1]), (7, [3, 3, 1])])
def test_requests_are_shared_and_their_answers_come_back_in_order(requests, shares):
    asked = []

    def ask(copy, way, part):
        asked.append((copy, way, list(part)))
        return [number * 10 for number in part]

    many = ManyMllms(ask, lambda handles: handles, 3, ("name", "identity", 4))
    assert (many.name, many.identity, many.parallel) == ("name", "identity", 12)
    assert many.write(list(range(requests))) == [number * 10 for number in range(requests)]
    assert [(copy, way, len(part)) for copy, way, part in asked] == [(n, "write", s) for n, s in enumerate(shares)]
    assert many.choose([1]) == [10]
    assert asked[-1] == (0, "choose", [1])


def answer(body):
    return json.dumps([f"a visible part of {text_of(body)[:9]}", "a long curved tail", "a small round head"])


def test_an_actor_answers_as_the_model_that_it_opens():
    with FakeServer(Behaviour(lists=answer)) as server, ExitStack() as stack:
        actor = stack.enter_context(closing(Answering(RerankSettings(model=server.url), one_token=False)))
        name, identity, parallel = actor.facts()
        assert name
        assert server.url in identity
        assert parallel == 16
        (reply,) = actor.answer("write", [WriteRequest(None, "Describe a fox", 100)])
        assert "a long curved tail" in reply.text


@pytest.mark.slow
def test_descriptions_that_ray_writes_are_those_of_one_process(tmp_path):
    (tmp_path / "labels.csv").write_text("name\nred fox\nbarn owl\ntabby cat\n")
    common = ["describe", tmp_path / "labels.csv", "--source", "llm", "--set", "rerank.cache=off"]
    with FakeServer(Behaviour(lists=answer)) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's libraries
        for name, options in (("one", []), ("ray", ["--engine", "ray"])):
            code, _, _ = call(*common, "--mllm", server.url, "--output", tmp_path / f"{name}.jsonl", *options)
            assert code == 0
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "ray.jsonl").read_bytes()
