import dataclasses
import hashlib
import json
import threading

import numpy as np
import pytest
from huggingface_hub import constants

from memory import Category, Memory
from recognizer.boxes.crop import show_box
from recognizer.building import build_memory
from recognizer.errors import RecognizerError
from recognizer.hierarchy.rule import label_rule
from recognizer.images import ImageLimits, decode_image, list_images
from recognizer.memory_settings import carried_settings
from recognizer.reranking.open import RerankNotConfigured, open_reranker, require_model, require_writer
from recognizer.reranking.questions import RankedImage, apply_ranking, candidates_of, margin, question_of, rerank_rows
from recognizer.reranking.stage import MOST_WAITING, RowBatch, rerank_in_background
from recognizer.results import BatchTiming, CandidateRow, ErrorRow, EvidenceRow, ResultRow, encode_row
from recognizer.results.row import RowBox, parse_row
from recognizer.settings import RerankSettings, ScoreSettings, SettingsError, load_settings
from rerank.base import CONFIDENT, Ranking
from rerank.cache import CacheFileRefused
from rerank.mllm import Failure, MllmUnavailable
from rerank.reranker import MllmReranker
from tests.rerank.fake_server import FakeServer
from tests.rerank.scripted import ScriptedMllm, choice, options, preferring

ALWAYS = RerankSettings(when="always", model="scripted")
SCORE = ScoreSettings()


def piece(term, text, contribution, region=None):
    return EvidenceRow(
        term=term, description=text, region=region, box_xyxy=None, value=0.1, weight=1.0, contribution=contribution
    )


def candidate(name, confidence, *pieces, group=""):
    return CandidateRow(category=name, group=group, score=confidence, confidence=confidence, evidence=pieces)


def row(*candidates, path="a.jpg", unknown=None):
    best = candidates[0]
    return ResultRow(
        path=path,
        label=best.category,
        confidence=best.confidence,
        calibrated=unknown is not None,
        unknown=unknown,
        candidates=candidates,
    )


CAT_DOG_OWL = row(candidate("cat", 0.4), candidate("dog", 0.3), candidate("owl", 0.1))


def test_options_carry_what_the_evidence_says_strongest_first_and_once():
    shown = candidates_of(
        row(
            candidate(
                "cat",
                0.4,
                piece("image_name", "cat", 0.9),
                piece("image_description", "whiskers", 0.01),
                piece("description", "tail", 0.02),  # as earlier result files call the term
                piece("region_description", "whiskers", 0.03, region=2),
                piece("region_name", "cat", 0.5, region=1),
                piece("exemplar", "photo.jpg", 0.4),
            ),
            candidate("crane", 0.2, piece("image_description", "crane", 0.1), group="bird"),
        )
    )
    assert shown[0].descriptions == ("whiskers", "tail")
    assert (shown[1].descriptions, shown[1].group, shown[1].confidence) == ((), "bird", 0.2)


def test_the_candidates_share_what_they_had_together():
    ranked = apply_ranking(CAT_DOG_OWL, Ranking((1, 0, 2), (0.25, 0.7, 0.05), answer=(0.2, 0.7, 0.1)), "m", score=SCORE)
    assert [c.category for c in ranked.candidates] == ["dog", "cat", "owl"]
    assert [c.confidence for c in ranked.candidates] == pytest.approx([0.56, 0.2, 0.04])
    assert [c.score for c in ranked.candidates] == [0.3, 0.4, 0.1]  # retrieval's, as the evidence adds up to them
    assert (ranked.label, ranked.confidence) == ("dog", pytest.approx(0.56))
    assert ranked.rerank == {"status": "ok", "model": "m", "order": [1, 0, 2], "probabilities": [0.7, 0.2, 0.1]}


def test_a_failure_leaves_the_row_and_says_why():
    ranked = apply_ranking(CAT_DOG_OWL, Ranking((0, 1, 2), (0.5, 0.4, 0.1), "timeout"), "m", score=SCORE)
    assert dataclasses.replace(ranked, rerank=None) == CAT_DOG_OWL
    assert ranked.rerank == {"status": "timeout", "model": "m", "order": [0, 1, 2]}


def test_cached_and_asked_rows_are_the_same_bytes():
    rows = [
        apply_ranking(CAT_DOG_OWL, Ranking((1, 0, 2), (0.25, 0.7, 0.05), status), "m", score=SCORE)
        for status in ("ok", "cached")
    ]
    assert encode_row(rows[0]) == encode_row(rows[1])


def test_unknown_is_decided_anew():
    score = ScoreSettings(calibrated=True, unknown_threshold=0.5)
    before = row(candidate("cat", 0.45), candidate("dog", 0.4), unknown=True)
    sure = apply_ranking(before, Ranking((1, 0), (0.02, 0.98)), "m", score=score)
    assert sure.unknown is False
    kept = apply_ranking(before, Ranking((0, 1), (0.5, 0.5), "timeout"), "m", score=score)
    assert kept.unknown is True
    unfitted = apply_ranking(before, Ranking((1, 0), (0.02, 0.98)), "m", score=score, fitted=False)
    assert (unfitted.unknown, unfitted.calibrated, unfitted.label) == (None, False, "dog")


def test_the_label_needs_its_least_confidence_after_reranking():
    score = ScoreSettings(min_confidence=0.5)
    before = row(candidate("cat", 0.45), candidate("dog", 0.4))
    sure = apply_ranking(before, Ranking((1, 0), (0.02, 0.98)), "m", score=score)
    assert (sure.status, sure.label) == ("ok", "dog")
    unsure = apply_ranking(before, Ranking((1, 0), (0.5, 0.5)), "m", score=score)
    assert (unsure.status, unsure.label, unsure.confidence) == ("below", None, pytest.approx(0.425))


def test_sums_of_groups_follow_the_candidates():
    groups = {"a": 0.55, "b": 0.4, "c": 0.05}
    candidates = [
        dataclasses.replace(candidate(name, confidence), group=group)
        for name, confidence, group in (("cat", 0.45, "a"), ("dog", 0.4, "b"))
    ]
    before = dataclasses.replace(row(*candidates), group_confidence=groups)
    after = apply_ranking(before, Ranking((1, 0), (0.2, 0.8)), "m", score=ScoreSettings())
    assert list(after.group_confidence) == ["b", "a", "c"]
    assert after.group_confidence == pytest.approx({"a": 0.1 + 0.17, "b": 0.68, "c": 0.05})


def test_all_groups_above_follow_the_candidates_and_the_label_is_rolled_up_anew():
    score = ScoreSettings(roll_up=0.6)
    candidates = [
        dataclasses.replace(candidate(name, confidence), group=group)
        for name, confidence, group in (("owl", 0.4, "animal > bird"), ("cat", 0.3, "animal"), ("cup", 0.1, "thing"))
    ]
    groups = {"animal": 0.75, "animal > bird": 0.45, "thing": 0.2}
    before = dataclasses.replace(row(*candidates), group_confidence=groups).with_label(label_rule(score))
    assert (before.label, before.label_level, before.label_path, before.source) == ("animal", 1, "animal", "rolled up")
    assert (before.confidence, before.candidates[0].category) == (0.75, "owl")
    after = apply_ranking(before, Ranking((2, 0, 1), (0.1, 0.1, 0.8)), "m", score=score)
    sums = {"animal": 0.05 + 0.16, "animal > bird": 0.05 + 0.08, "thing": 0.1 + 0.64}
    assert after.group_confidence == pytest.approx(sums)
    assert (after.label, after.label_path, after.source) == ("cup", "thing > cup", "category")
    failed = apply_ranking(before, Ranking((0, 1, 2), (0.5, 0.4, 0.1), "timeout"), "m", score=score)
    assert (failed.label, failed.source) == ("animal", "rolled up")
    vague = apply_ranking(before, Ranking((1, 0, 2), (0.1, 0.2, 0.7)), "m", score=score)
    assert (vague.status, vague.label, vague.source) == ("below", None, None)
    assert parse_row(json.loads(encode_row(before))) == parse_row(before.to_dict())


def test_margin_is_of_the_two_best():
    assert margin(CAT_DOG_OWL.candidates) == pytest.approx(0.1)
    assert margin(CAT_DOG_OWL.candidates[:1]) == 1


@pytest.fixture
def images(photos):
    listing = list_images([photos])
    return [RankedImage(item, hashlib.sha256(item.key_bytes).hexdigest()) for item in listing]


def rerank(rows, images, reranker, settings=ALWAYS):
    return rerank_rows(rows, images, reranker, settings, score=SCORE, limits=ImageLimits())


def test_auto_asks_only_where_the_margin_is_small(images):
    sure = row(candidate("cat", 0.9), candidate("dog", 0.05), path="b.jpg")
    mllm = preferring(["dog", "cat"])
    reranker = MllmReranker(mllm, weight=5)
    auto = RerankSettings(when="auto", model="m", margin=0.2)
    fair, just = (row(candidate("cat", 0.5), candidate("dog", other), path="c.jpg") for other in (0.1, 0.25))
    found = rerank([CAT_DOG_OWL, sure, fair, just], images[:4], reranker, auto)
    assert [r.label for r in found] == ["dog", "cat", "cat", "cat"]
    assert found[1].rerank == {"status": CONFIDENT, "model": "scripted", "order": [0, 1]}
    assert (reranker.counts.asked, reranker.counts.skipped) == (1, 3)
    exact = RerankSettings(when="auto", model="m", margin=0.25)
    assert (
        rerank([just], images[:1], reranker, exact)[0].rerank["status"] == CONFIDENT
    )  # asked below, not at, the margin


def test_error_rows_stay_and_a_vanished_file_keeps_its_order(images):
    error = ErrorRow(path="x", code="E_TRUNCATED", reason="cut")
    gone = RankedImage(dataclasses.replace(images[0].item, path=b"/nowhere/cat.jpg"), "0")
    found = rerank([error, CAT_DOG_OWL], [None, gone], MllmReranker(preferring(["dog"])))
    assert found[0] is error
    assert found[1].label == "cat"
    assert found[1].rerank["status"].startswith("unreadable: image: E_")


def test_each_image_is_asked_about_with_its_own_pixels(images):
    """The answer depends on the pixels, so an answer given to the wrong image would show."""

    def choose_one(request):
        shade = int(np.asarray(request.image).mean())
        return choice([10 if name == f"shade {shade}" else 1 for _, name in options(request.text)])

    shades = [int(np.asarray(decode_image(i.item.path, target_size_hw=(768, 768)).image).mean()) for i in images]
    names = [f"shade {shade}" for shade in dict.fromkeys(shades)]
    rows = [row(*(candidate(name, 1 / len(names)) for name in names), path=i.item.key) for i in images]
    found = rerank(rows, images, MllmReranker(ScriptedMllm(choose_one)))
    assert [r.label for r in found] == [f"shade {shade}" for shade in shades]


def test_a_box_is_shown_with_its_surroundings_and_answered_for_by_itself(images, photos):
    boxes = [RowBox(id=str(left), xyxy=(left, 100.0, left + 100.0, 200.0)) for left in (50.0, 250.0)]
    rows = [dataclasses.replace(row(candidate("cat", 0.5), candidate("dog", 0.4)), box=box) for box in boxes]
    image = images[0]
    outlined, blurred = (
        [question_of(each, image, RerankSettings(model="m", box=how), ImageLimits()) for each in rows]
        for how in ("outline", "blur")
    )
    assert len({question.image_sha256 for question in (*outlined, *blurred)}) == 4
    whole = decode_image(photos / "astronaut.jpg").image
    for question, box, how in ((outlined[0], boxes[0], "outline"), (blurred[1], boxes[1], "blur")):
        shown = question.load()
        assert shown.tobytes() == show_box(whole, box.xyxy, how=how).tobytes()
        assert shown.width < min(whole.size)
    written = dataclasses.replace(rows[0], box=dataclasses.replace(boxes[0], xyxy=(50.001, 100.0, 150.0, 200.0)))
    # A row that was read from a file, with rounded edges, asks the same question.
    again = question_of(written, image, RerankSettings(model="m"), ImageLimits())
    assert again.image_sha256 == outlined[0].image_sha256


def number_of(batch):
    return int(batch.rows[0].path)


def batches(count, images):
    timing = BatchTiming(decode_s=0, encode_s=0, score_s=0)
    return (RowBatch([dataclasses.replace(CAT_DOG_OWL, path=str(n))], [images[0]], timing) for n in range(count))


def test_batches_come_back_in_order_while_later_ones_are_made(images):
    made = []
    held = threading.Event()

    def slow(request):
        held.wait(5)
        return choice([1, 2, 1])

    def source():
        for batch in batches(6, images):
            made.append(number_of(batch))
            if number_of(batch) == 5:
                held.set()  # the last one is made before the first one is answered
            yield batch

    done = rerank_in_background(source(), MllmReranker(ScriptedMllm(slow)), ALWAYS, score=SCORE, limits=ImageLimits())
    assert [number_of(batch) for batch in done] == list(range(6))
    assert made == list(range(6))


def test_a_slow_mllm_holds_encoding_back_only_after_many_batches(images):
    made = []
    answer = threading.Event()

    def slow(request):
        answer.wait(5)
        return choice([1, 2, 1])

    def source():
        for batch in batches(MOST_WAITING + 20, images):
            made.append(number_of(batch))
            if number_of(batch) == MOST_WAITING:
                threading.Timer(0.1, answer.set).start()
            yield batch

    reranker = MllmReranker(ScriptedMllm(slow), rotations=1)
    done = rerank_in_background(source(), reranker, ALWAYS, score=SCORE, limits=ImageLimits())
    first = next(done)
    assert (number_of(first), len(made)) == (0, MOST_WAITING + 1)  # so far it went without one answer, and no farther
    assert [number_of(batch) for batch in done] == list(range(1, MOST_WAITING + 20))


def test_a_dead_mllm_loses_no_row(images):
    reranker = MllmReranker(ScriptedMllm(lambda r: Failure("unreachable")), give_up_after=2)
    many = [dataclasses.replace(image, sha256=str(n)) for n, image in enumerate(images * 4)]
    rows = [dataclasses.replace(CAT_DOG_OWL, path=str(n)) for n in range(len(many))]
    found = rerank(rows, many, reranker)
    assert [r.path for r in found] == [r.path for r in rows]
    assert {r.label for r in found} == {"cat"}
    assert found[-1].rerank["status"] == "skipped: gave up"


def test_a_cache_that_holds_something_else_is_refused_before_the_mllm_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("rerank.backends.open_mllm", lambda *_, **__: pytest.fail("the MLLM was opened"))
    notes = tmp_path / "notes.txt"
    notes.write_text("a text that someone keeps")
    with pytest.raises(CacheFileRefused, match="is not a SQLite database"):
        open_reranker(RerankSettings(when="always", model="m", cache=str(notes)))
    assert notes.read_text() == "a text that someone keeps"


def test_without_an_mllm_one_sentence_with_an_example_comes_first():
    with pytest.raises(RerankNotConfigured, match=r"--rerank-model http://127\.0\.0\.1:8000/v1"):
        require_model(RerankSettings(when="auto"), 5)
    require_model(RerankSettings(), 5)
    with pytest.raises(
        RecognizerError,
        match=r"more than the 20 options .* run.top_k=20 or less, or rerank.mode=list",
    ):
        require_model(ALWAYS, 21)
    require_model(ALWAYS, 20)
    require_model(RerankSettings(when="always", model="m", mode="list"), 21)


def test_a_writer_is_refused_within_seconds_where_nothing_answers_or_can_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    dead = RerankSettings(model="http://127.0.0.1:9/v1")
    with pytest.raises(MllmUnavailable, match="does not answer"):
        require_writer(dead)
    for forbidden, why in ((True, "HF_HUB_OFFLINE allows no download"), (False, "the hub does not answer")):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", forbidden)
        for model in ("nobody/model", "gone/folder/model"):
            with pytest.raises(MllmUnavailable, match=f"'{model}' is no dir.* not in the local cache, and {why}; give"):
                require_writer(RerankSettings(model=model))
    require_writer(dead, here=False)  # other machines may reach it
    require_writer(RerankSettings(model=str(tmp_path)))
    with FakeServer() as server:
        require_writer(RerankSettings(model=server.url))
        assert server.paths == ["/v1/models"]


def test_a_fine_grained_memory_says_always_and_what_is_given_goes_before(starter, tmp_path):
    names = [Category("cat"), Category("dog")]
    build_memory(names, tmp_path / "memory", encoder=starter, fine_grained=True)
    carried = carried_settings(Memory.open(tmp_path / "memory"))
    named = ["rerank.model=m"]
    assert load_settings(base=carried, overrides=named).rerank.when == "always"
    given = load_settings(base=carried, overrides=[*named, "rerank.margin=0.5"])
    assert (given.rerank.when, given.rerank.margin) == ("always", 0.5)
    assert load_settings(base=carried, overrides=[*named, "rerank.when=off"]).rerank.when == "off"
    with pytest.raises(SettingsError, match="rerank"):
        load_settings(overrides=["rerank.colour=red"])


def test_another_spelling_of_the_model_is_the_same_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    here = RerankSettings(model="m", fitted_for=str(tmp_path / "m"))
    assert here.fitted
    assert RerankSettings(model="./m/", fitted_for=here.model_name).fitted
    assert RerankSettings(model="http://h/v1/", fitted_for="http://h/v1").fitted
    assert not RerankSettings(model="http://h/v1", fitted_for="http://g/v1").fitted
    assert not RerankSettings(model="m", fitted_for=here.model_name, mode="list").fitted
    assert not RerankSettings(model="m").fitted


def test_only_what_decides_the_answer_is_part_of_a_run():
    a = RerankSettings(when="always", model="m")
    assert a.decisive() == RerankSettings(when="always", model="m", concurrency=3, timeout_s=1).decisive()
    assert a.decisive() != RerankSettings(when="always", model="m", rotations=2).decisive()
    assert RerankSettings(model="m", rotations=2).decisive() == {"when": "off"}
