import numpy as np

from memory import Category
from recognizer.evaluation.evaluate import evaluate
from recognizer.evaluation.labelled import LabelledSet
from recognizer.evaluation.reranked import class_changes, evaluate_reranking
from recognizer.images import decode_image, list_images
from recognizer.reranking.questions import RankedImage
from recognizer.reranking.stage import RowBatch
from recognizer.results import BatchTiming, CandidateRow, ResultRow
from recognizer.settings import RerankSettings, Settings
from rerank.reranker import MllmReranker
from tests.rerank.scripted import ScriptedMllm, choice, options

ALWAYS = RerankSettings(when="always", model="scripted")


def test_eval_adds_reranking_and_its_ceiling(demo_recognizer, photos):
    listing = list_images(sorted(photos.glob("*.jpg"))[:4])
    categories = [category.name for category in demo_recognizer.memory.vectors.categories]
    settings = demo_recognizer.settings.model_copy(update={"rerank": ALWAYS})
    demo = type(demo_recognizer)(demo_recognizer.encoder, demo_recognizer.memory, settings=settings)
    # Retrieval's second candidate is called the truth, so that retrieval is always wrong and the oracle always right.
    images = [decode_image(item.path, target_size_hw=(768, 768)).image for item in listing]
    names = [row.candidates[1].category for row in demo.recognize(images)]
    truth = [categories.index(name) for name in names]
    by_pixels = {np.asarray(image).tobytes(): name for image, name in zip(images, names, strict=True)}
    assert len(by_pixels) == len(listing)

    def choose_one(request):
        name = by_pixels[np.asarray(request.image).tobytes()]
        return choice([1000 if shown == name else 1 for _, shown in options(request.text)])

    reranker = MllmReranker(ScriptedMllm(choose_one), weight=5)
    found = evaluate(demo, LabelledSet(listing, truth, {}), reranker=reranker)
    assert list(found.rows)[-2:] == ["+ rerank", "oracle rerank"]
    assert found.rows["+ rerank"] == found.rows["oracle rerank"]  # this MLLM knows
    assert found.rows["oracle rerank"].top1.value == 1
    assert found.rerank.ceiling_share == 1
    assert found.rerank.cost.requests == 5 * len(listing)


def test_ranks_count_from_one_and_a_truth_beyond_the_candidates_keeps_its_own(photos):
    """An MLLM that finds all options alike changes nothing."""
    images = [RankedImage(item, str(n)) for n, item in enumerate(list_images(sorted(photos.glob("*.jpg"))[:4]))]
    candidates = [
        CandidateRow(category=name, group="", score=p, confidence=p, evidence=())
        for name, p in (("cat", 0.4), ("dog", 0.3), ("owl", 0.1))
    ]
    rows = [
        ResultRow(path=str(n), label="cat", confidence=0.4, calibrated=False, unknown=None, candidates=candidates)
        for n in range(4)
    ]
    batch = RowBatch(rows, images, BatchTiming(decode_s=0, encode_s=0, score_s=0))
    categories = [Category(name) for name in ("cat", "dog", "owl", "yak")]
    found = evaluate_reranking(
        [batch],
        [0, 1, 2, 3],
        np.array([1, 2, 3, 9]),
        categories=categories,
        reranker=MllmReranker(ScriptedMllm(lambda r: choice([1] * 3)), weight=0),
        settings=Settings(rerank=ALWAYS),
    )
    assert found.ceiling_share == 0
    assert not found.changes
    after, oracle = found.rows["+ rerank"], found.rows["oracle rerank"]
    assert (after.top1.value, after.top5.value, after.median_rank) == (0.25, 0.75, 2.5)
    assert (oracle.top1.value, oracle.top5.value, oracle.median_rank) == (0.75, 0.75, 1.0)


def test_class_changes_by_hand():
    truth = np.array([0, 0, 1, 2])
    found = class_changes(["a", "b", "c"], truth, np.array([1, 3, 2, 1]), np.array([1, 1, 2, 2]))
    assert [(c.category, c.images, c.before, c.after) for c in found] == [("a", 2, 0.5, 1.0), ("c", 1, 1.0, 0.0)]
