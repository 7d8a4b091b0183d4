"""Every backend on the tiny model: it sees the picture, wherever the options stand, and all of them agree.

vLLM has its own torch, so it runs in its own environment: RECOGNIZER_VLLM_PYTHON names that environment's python.
"""

import json
import random
import shutil
import subprocess

import jinja2
import numpy as np
import pytest
import torch
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

from rerank.backends import BackendOptions, open_mllm
from rerank.backends.transformers_local import TransformersLocal
from rerank.base import Candidate, Question
from rerank.mllm import ScoreRequest, WriteRequest
from rerank.reranker import MllmReranker
from tests.rerank.fake_server import Behaviour, FakeServer, picture
from tests.rerank.seeing import CASES, all_answers, answers, make_cases, right_share, too_long, turned
from tests.rerank.tiny_mllm.pictures import MODEL
from tests.rerank.vllm_server import (
    AS_RERANKER,
    ENVIRONMENT,
    NO_AND_YES,
    ROOT,
    SCORE_TEMPLATE,
    VLLM,
    vllm_server,
)

needs_vllm = pytest.mark.skipif(not VLLM, reason="RECOGNIZER_VLLM_PYTHON names no environment with vLLM")
CHANCE = 1 / 5


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The model is so small that threads cost more than they bring, and on a busy machine many times more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cases():
    return make_cases(CASES, swapped=False)


@pytest.fixture(scope="module")
def swapped():
    return make_cases(CASES, swapped=True)


@pytest.fixture(scope="module")
def tiny():
    mllm = TransformersLocal(str(MODEL), device="cpu", dtype="float32", batch_size=16)
    yield mllm
    mllm.close()


@pytest.fixture(scope="module")
def by_transformers(tiny):
    return all_answers(tiny)


@pytest.fixture(scope="module")
def by_vllm():
    command = [VLLM, "-m", "tests.rerank.seeing", str(MODEL)]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWERS ")]
    assert lines, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(lines[0].removeprefix("ANSWERS "))


@pytest.fixture(scope="module")
def server():
    with vllm_server() as url:
        yield url


@pytest.fixture(scope="module")
def by_server(server):
    mllm = open_mllm(server, BackendOptions(jpeg_quality=None))
    assert mllm.name.startswith("tiny")
    found = all_answers(mllm)
    mllm.close()
    return found


def check_it_sees(found, cases, swapped):
    for key in ("right", "swapped", "turned", "listed"):
        assert all(sorted(answer["order"]) == list(range(5)) for answer in found[key])
    assert {answer["status"] for answer in found["listed"]} == {"ok"}
    assert right_share(cases[:10], found["listed"]) >= 0.8
    assert {answer["status"] for answer in found["right"]} == {"ok"}
    assert right_share(cases, found["right"]) >= 0.95
    # Retrieval never has the truth first, so chance is at most one in five; 30 cases stray by 0.07.
    assert right_share(swapped, found["swapped"]) <= CHANCE + 0.15
    straight = np.array([answer["answer"] for answer in found["right"]])
    rolled = np.array([np.roll(answer["answer"], 2) for answer in found["turned"]])
    assert np.abs(straight - rolled).max() < 1e-3
    # Asked once each, in two orders: what the model itself makes of the places.
    once, twice = (np.array([answer["answer"] for answer in found[key]]) for key in ("once", "once turned"))
    assert (once.argmax(1) == np.roll(twice, 2, axis=1).argmax(1)).mean() >= 0.95
    assert [cases[n].candidates[answer["order"][0]].name for n, answer in enumerate(found["right"])] == [
        turned(cases, 2)[n].candidates[answer["order"][0]].name for n, answer in enumerate(found["turned"])
    ]


def check_same(found, expected):
    for key in ("right", "swapped"):
        one, other = (np.array([answer["answer"] for answer in each[key]]) for each in (found, expected))
        # Below one in a thousand the logarithm magnifies rounding that no ranking depends on.
        likely = np.maximum(one, other) > 1e-3
        assert np.abs(np.log(one[likely]) - np.log(other[likely])).max() < 0.02
    assert [answer["order"][0] for answer in found["right"]] == [answer["order"][0] for answer in expected["right"]]


def test_transformers_sees(by_transformers, cases, swapped):
    check_it_sees(by_transformers, cases, swapped)


def test_one_pass_in_a_batch_is_one_alone(tiny, cases):
    alone = MllmReranker(TransformersLocal(str(MODEL), device="cpu", dtype="float32", batch_size=1))
    together = answers(MllmReranker(tiny), cases[:4])
    for one, other in zip(answers(alone, cases[:4]), together, strict=True):
        assert one["answer"] == pytest.approx(other["answer"], abs=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transformers_sees_on_a_gpu(by_transformers, cases, swapped, cuda, dtype):
    on_gpu = TransformersLocal(str(MODEL), device=cuda, dtype=dtype, batch_size=16)
    found = all_answers(on_gpu)
    on_gpu.close()
    if dtype == "float32":
        check_it_sees(found, cases, swapped)
        check_same(found, by_transformers)
    assert right_share(cases, found["right"]) >= 0.95


def test_transformers_counts_its_tokens(tiny, cases):
    reranker = MllmReranker(tiny, rotations=2)
    answers(reranker, cases[:3])
    assert (reranker.counts.requests, reranker.counts.generated_tokens) == (6, 6)
    assert reranker.counts.prompt_tokens > 6 * 40


def test_where_memory_runs_out_batches_are_halved_and_one_alone_fails(cases, monkeypatch):
    mllm = TransformersLocal(str(MODEL), device="cpu", dtype="float32", batch_size=16)
    sizes, forward = [], Qwen2VLForConditionalGeneration.forward

    def small_machine(self, **inputs):
        rows, length = inputs["input_ids"].shape
        sizes.append(rows)
        if rows > 3 or length > 500:
            raise torch.OutOfMemoryError("no room")
        return forward(self, **inputs)

    monkeypatch.setattr(Qwen2VLForConditionalGeneration, "forward", small_machine)
    seen = answers(MllmReranker(mllm, rotations=4), cases[:4])
    assert sizes[:5] == [
        4,
        4,
        4,
        2,
        2,
    ]  # four images, with 16, 8 and 4 rows allowed; then two, and rests of two prompts
    assert max(sizes[3:]) == 2
    assert right_share(cases[:4], seen) == 1
    assert [answer["status"] for answer in answers(MllmReranker(mllm), [too_long(cases[0]), cases[1]])] == [
        "refused: out of memory",
        "ok",
    ]


def test_law_holds_for_junk_from_a_server():
    """Whatever a server writes, each picture keeps all its candidates, and no picture gets another's order."""
    rng = random.Random(5)
    names = ("cat", "tabby cat", "jack-o'-lantern", "bird, large", "747")
    good = "['747', 'cat', 'tabby cat', \"jack-o'-lantern\", 'bird, large']"

    def junk(body):
        cut = sorted(rng.randrange(len(good) + 1) for _ in range(2))
        return good[: cut[0]] + "".join(chr(rng.randrange(1, 0xD7FF)) for _ in range(rng.randrange(9))) + good[cut[1] :]

    pictures = [Question(str(n), lambda n=n: picture(n), [Candidate(name) for name in names]) for n in range(100)]
    with FakeServer(Behaviour(lists=junk)) as server:
        mllm = open_mllm(server.url, BackendOptions())
        found = MllmReranker(mllm, mode="list", give_up_after=1000).rank_many(pictures)
        mllm.close()
    assert all(sorted(ranking.order) == [0, 1, 2, 3, 4] for ranking in found)
    statuses = {ranking.status.split(":")[0] for ranking in found}
    assert statuses == {"ok", "unreadable"}


@needs_vllm
def test_vllm_sees_and_agrees(by_vllm, by_transformers, cases, swapped):
    check_it_sees(by_vllm, cases, swapped)
    check_same(by_vllm, by_transformers)
    assert by_vllm["counts"]["generated_tokens"] == by_vllm["counts"]["requests"] == 3 * CASES * 5
    assert [answer["status"] for answer in by_vllm["too long"]] == ["ok", "refused", "ok"]


@needs_vllm
def test_a_server_sees_and_agrees(by_server, by_transformers, cases, swapped):
    check_it_sees(by_server, cases, swapped)
    check_same(by_server, by_transformers)
    assert [answer["status"] for answer in by_server["too long"]] == ["ok", "refused", "ok"]


@needs_vllm
def test_lists_are_the_same_everywhere(by_vllm, by_server, by_transformers):
    for found in (by_vllm, by_server):
        same = [a["order"] == b["order"] for a, b in zip(found["listed"], by_transformers["listed"], strict=True)]
        assert sum(same) >= 9  # greedy decoding; a tie may fall otherwise


def score_by_transformers(case):
    """P(yes) of each candidate, with the prompt that the server's template makes."""
    processor = AutoProcessor.from_pretrained(MODEL)
    model = Qwen2VLForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)
    messages = [{"role": "query", "content": "<|vision_start|><|image_pad|><|vision_end|>"}]
    template = jinja2.Template(SCORE_TEMPLATE.read_text())
    scores = []
    for candidate in case.candidates:
        text = template.render(messages=[*messages, {"role": "document", "content": candidate.name}])
        with torch.inference_mode():
            logits = model(**processor(text=[text], images=[case.image], return_tensors="pt")).logits[0, -1]
        no, yes = (logits[token] for token in processor.tokenizer.convert_tokens_to_ids(list(NO_AND_YES)))
        scores.append(torch.sigmoid(yes - no).item())
    return scores


@needs_vllm
def test_a_reranker_at_vllm_sees_and_agrees(cases):
    with vllm_server(*AS_RERANKER) as url:
        scorer = open_mllm(f"reranker:{url}", BackendOptions(jpeg_quality=None))
        found = answers(MllmReranker(scorer), cases)
        scores = scorer.score([ScoreRequest(case.image, tuple(c.name for c in case.candidates)) for case in cases[:5]])
        scorer.close()
    assert {answer["status"] for answer in found} == {"ok"}
    assert right_share(cases, found) >= 0.85  # the tiny model never learned to say yes or no
    for case, score in zip(cases[:5], scores, strict=True):
        assert score.values == pytest.approx(score_by_transformers(case), abs=2e-3)


def test_another_dtype_or_folder_is_another_identity(tiny, tmp_path):
    copied = tmp_path / "model"
    shutil.copytree(MODEL, copied, copy_function=shutil.copyfile)  # a file written later is another one
    other = TransformersLocal(str(copied), device="cpu", dtype="float32")
    assert other.identity != tiny.identity
    again = TransformersLocal(str(MODEL), device="cpu", dtype="float32")
    assert again.identity == tiny.identity
    assert TransformersLocal(str(MODEL), device="cpu", dtype="bfloat16").identity != tiny.identity


def test_text_is_written_with_and_without_an_image_in_one_call(tiny, cases):
    """Each answer is the one that its request gets by itself."""
    image = cases[0].image
    requests = [
        WriteRequest(None, '["cat", "dog"]', 4, {"type": "object"}),
        WriteRequest(image, "what is shown?", 6),
        WriteRequest(None, "which?", 6),
    ]
    replies = tiny.write(requests)
    assert replies == [tiny.write([request])[0] for request in requests]
    assert replies[1].usage.prompt_tokens > replies[2].usage.prompt_tokens + 4
    assert all(0 < reply.usage.generated_tokens <= 6 for reply in replies)
