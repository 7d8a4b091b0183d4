import json

import pytest

from memory import Memory
from recognizer.errors import RecognizerError
from recognizer.reranking.open import RerankNotConfigured
from tests.recognizer.commands import call
from tests.rerank.fake_server import Behaviour, FakeServer, image_url, text_of

LABELS = "name,group,rank\nzebra,animals,1\nlion,animals,2\nxyzzy,animals,3\n"


@pytest.fixture
def labels(tmp_path):
    (tmp_path / "labels.csv").write_text(LABELS)
    return tmp_path / "labels.csv"


def test_wordnet_describes_and_build_and_info_know_it(labels, tmp_path):
    code, out, err = call("describe", labels, "--output", tmp_path / "d.json", "--model", "starter")
    assert code == 0
    assert "2 of 3 categories described (66.7%)" in out
    assert "1 category without: no visible thing of that name in WordNet, such as 'xyzzy'" in err
    texts = json.loads((tmp_path / "d.json").read_text())
    assert list(texts) == ["zebra", "lion", "xyzzy"]
    assert len(texts["lion"]) >= 3
    memory = tmp_path / "m.memory"
    code, _, err = call(
        "build", labels, "--memory", memory, "--model", "starter", "--descriptions", tmp_path / "d.json"
    )
    assert code == 0
    assert "d.json: 2 of 3 categories described" in err
    categories = {category.name: category for category in Memory.open(memory).vectors.categories}
    assert [each.text for each in categories["lion"].descriptions] == texts["lion"]
    assert (categories["lion"].group, categories["lion"].metadata) == ("animals", {"rank": "2"})


def answer(body):
    shown = "seen" if not isinstance(body["messages"][0]["content"], str) else "read"
    return json.dumps({"descriptions": [f"{shown} {part}" for part in ("wings", "feet", "beak")]})


def test_a_language_model_describes_once(labels, tmp_path):
    options = ["--source", "llm", "--model", "starter", "--set", f"rerank.cache={tmp_path / 'cache.sqlite'}"]
    with FakeServer(Behaviour(lists=answer)) as server:
        for name in ("a.jsonl", "b.jsonl"):
            code, out, err = call("describe", labels, "--output", tmp_path / name, "--mllm", server.url, *options)
            assert code == 0, err
        assert len(server.chats) == 3
        assert all('"zebra (animals)"' in text_of(body) for body in server.chats)
    assert "3 of 3 categories described (100.0%), by 9 descriptions" in out
    assert "answers: 0 questions asked, 3 cached" in err
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    first = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert (first["name"], first["group"], first["metadata"]) == ("zebra", "animals", {"rank": "1"})
    assert [each["text"] for each in first["descriptions"]] == ["read wings", "read feet", "read beak"]


def test_the_model_sees_example_images(tmp_path, photos):
    (tmp_path / "set" / "tabby").mkdir(parents=True)
    (tmp_path / "set" / "tabby" / "1.jpg").write_bytes((photos / "cat.jpg").read_bytes())
    options = ["--source", "exemplars", "--model", "starter", "--set", "rerank.cache=off"]
    with FakeServer(Behaviour(lists=answer)) as server:
        code, _, err = call(
            "describe", tmp_path / "set", "--output", tmp_path / "d.json", "--mllm", server.url, *options
        )
        assert code == 0, err
        assert image_url(server.chats[0]).startswith("data:image/jpeg")
    assert json.loads((tmp_path / "d.json").read_text()) == {"tabby": ["seen wings", "seen feet", "seen beak"]}


def test_a_model_that_answers_nothing_is_said_and_ends_with_1(labels, tmp_path):
    options = ["--source", "llm", "--model", "starter", "--set", "rerank.cache=off"]
    with FakeServer(Behaviour(lists=lambda body: "I cannot.")) as server:
        code, out, err = call("describe", labels, "--output", tmp_path / "d.json", "--mllm", server.url, *options)
    assert code == 1
    assert "0 of 3 categories described" in out
    assert "3 categories without: no list in the answer" in err
    assert "the first answer is 'I cannot.'" in err


def test_what_cannot_work_is_refused_before_any_work(labels, tmp_path):
    with pytest.raises(RerankNotConfigured, match="give --mllm"):
        call("describe", labels, "--output", tmp_path / "d.json", "--source", "llm")
    with pytest.raises(RecognizerError, match="writes nothing"):
        call("describe", labels, "--output", tmp_path / "d.json", "--source", "llm", "--mllm", "reranker:http://x/v1")
    with pytest.raises(RecognizerError, match="no example images"):
        call("describe", labels, "--output", tmp_path / "d.json", "--source", "exemplars", "--mllm", "http://x/v1")
    with pytest.raises(RecognizerError, match="are written as"):
        call("describe", labels, "--output", tmp_path / "d.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mllm", "http://127.0.0.1:9/v1"], "add --source llm"),
        (["--exemplars", "."], "add --source exemplars"),
        (["--source", "llm", "--mllm", "http://127.0.0.1:9/v1", "--exemplars", "."], "add --source exemplars"),
    ],
)
def test_options_of_another_source_are_refused(labels, tmp_path, options, message):
    with pytest.raises(RecognizerError, match=message):
        call("describe", labels, "--output", tmp_path / "d.json", *options)
