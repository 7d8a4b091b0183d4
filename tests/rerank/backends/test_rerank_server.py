import math

import pytest

from rerank.backends import BackendOptions, open_mllm
from rerank.backends.rerank_server import RerankServer
from rerank.base import Candidate, Question
from rerank.mllm import Failure, Scorer, ScoreRequest, Scores, Usage
from rerank.reranker import MllmReranker
from tests.rerank.fake_server import Behaviour, FakeServer, picture

THINGS = tuple(f"thing {number}" for number in range(5))


@pytest.fixture
def opened():
    """Opens rerankers and closes them at the end; `warn=LIST.append` collects their warnings."""
    models = []

    def make(server, *, warn=None, **options):
        models.append(open_mllm(f"reranker:{server.url}", BackendOptions(retries=0, **options), warn=warn))
        return models[-1]

    yield make
    for model in models:
        model.close()


def requests(count):
    return [ScoreRequest(picture(number), THINGS) for number in range(count)]


@pytest.mark.parametrize("ranks", [{"/rerank"}, {"/score"}, {"/rerank", "/score"}])
def test_every_image_gets_the_scores_of_its_own_documents(opened, ranks):
    with FakeServer(Behaviour(ranks=ranks)) as server:
        model = opened(server)
        assert isinstance(model, RerankServer)
        assert isinstance(model, Scorer)
        model.score(requests(1))
        server.chats.clear()
        found = model.score(requests(5))
        assert found == [
            Scores(tuple(0.9 if place == number else 0.1 for place in range(5)), Usage(40, 0)) for number in range(5)
        ]
        assert len(server.chats) == 5
        assert server.chats[0]["model"] == "fake"


def test_candidates_are_ranked_and_cost_one_request(opened):
    with FakeServer(Behaviour(ranks={"/rerank"})) as server:
        reranker = MllmReranker(opened(server))
        (ranking,) = reranker.rank_many([Question("x", lambda: picture(3), [Candidate(name) for name in THINGS])])
        assert ranking.order[0] == 3
        assert ranking.probabilities[3] == pytest.approx(9 / (9 + 4 / 9))
        assert (reranker.counts.requests, reranker.counts.prompt_tokens) == (1, 40)


def test_a_server_without_a_reranker_is_hopeless_and_says_so(opened):
    with FakeServer() as server:
        (answer,) = opened(server).score(requests(1))
        assert answer == Failure("refused", hopeless=True)
        assert answer.hint.startswith('HTTP 404: "no such route"')
        assert [path for path in server.paths if path != "/v1/models"] == ["/v1/rerank", "/v1/score"]


def test_a_reranker_named_without_its_prefix_is_hinted_at():
    with FakeServer(Behaviour(ranks={"/rerank"})) as server:
        mllm = open_mllm(server.url, BackendOptions(retries=0))
        warnings = []
        MllmReranker(mllm, warn=warnings.append).rank(picture(1), [Candidate(name) for name in THINGS])
        mllm.close()
    assert "a reranker is named reranker:URL" in warnings[0]


@pytest.mark.parametrize(
    ("scores", "warned"),
    [([0.5, 0.51, 0.49, 0.5, 0.519], True), ([0.5, 0.51, 0.49, 0.5, 0.53], False), ([0.9, 0.5, 0.5, 0.5, 0.5], False)],
)
def test_scores_that_all_lie_near_a_half_are_said_once(opened, scores, warned):
    warnings = []
    with FakeServer(Behaviour(ranks={"/rerank"}, models=["fake"], scores=lambda body: scores)) as server:
        model = opened(server, warn=warnings.append)
        for _ in range(3):
            model.score(requests(2))
    assert len(warnings) == warned
    assert not warned or "chat template" in warnings[0]


def test_two_scores_near_a_half_are_no_sign(opened):
    warnings = []
    flat = Behaviour(ranks={"/score"}, models=["fake"], scores=lambda body: [0.5] * len(body["documents"]))
    with FakeServer(flat) as server:
        opened(server, warn=warnings.append).score([ScoreRequest(picture(1), ("a", "b"))])
    assert warnings == []


def test_a_prompt_that_is_too_long_is_sent_with_a_smaller_image(opened):
    sizes = []

    def refuses(body):
        sizes.append(len(body["query"]["content"][0]["image_url"]["url"]))
        return "The prompt is longer than the maximum model length of 1024." if len(sizes) == 1 else None

    with FakeServer(Behaviour(ranks={"/rerank"}, refuses=refuses)) as server:
        (found,) = opened(server).score([ScoreRequest(picture(2).resize((600, 600), 0), THINGS)])
    assert found.values[2] == 0.9
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([0.1] * 4, "4 scores for 5 documents"),
        ([0.1] * 6, "no score of a document"),
        ([1.5, -2.0, 0, 0, 0], "no probability"),
        ([math.nan] * 5, "no probability"),
        ([True] * 5, "no probability"),
        (["0.5"] * 5, "no probability"),
        ([None] * 5, "no probability"),
    ],
)
def test_what_is_no_score_for_each_document_is_unreadable(opened, scores, reason):
    with FakeServer(Behaviour(ranks={"/score"}, scores=lambda body: scores)) as server:
        (answer,) = opened(server).score(requests(1))
    assert answer.status.startswith("unreadable: ")
    assert reason in answer.status
    assert answer.status.isprintable()


def test_a_reranker_and_an_mllm_at_one_address_have_two_identities(opened):
    with FakeServer() as server:
        mllm = open_mllm(server.url, BackendOptions())
        assert opened(server).identity != mllm.identity
        mllm.close()
