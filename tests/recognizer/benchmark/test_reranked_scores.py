import hashlib

import numpy as np
import pytest
from PIL import Image

from recognizer.benchmark.reranked_scores import ScoredImages
from recognizer.images import ImageItem
from recognizer.reranking.open import open_reranker
from recognizer.settings import load_settings
from tests.rerank.scripted import options, preferring

NAMES = ["owl", "gull", "tern", "wren"]


def test_the_best_names_are_asked_about_and_their_order_counts(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    item = ImageItem(b"a.png", str(path).encode())
    settings = load_settings(
        overrides=["rerank.when=always", "rerank.model=none", "rerank.cache=off", "run.top_k=2", "rerank.weight=9"]
    )
    mllm = preferring(["tern", "wren"])
    scored = ScoredImages(NAMES, settings, temperature=1.0)
    scores = np.array([[0.1, 0.9, 0.8, 0.2], [0.9, 0.1, 0.2, 0.8]], np.float32)
    for row, truth in zip(scores, (2, 1), strict=True):
        digest = hashlib.sha256(row.tobytes()).hexdigest()
        scored.add(row[None], np.array([truth]), [item], [digest])
    found = scored.reranked(open_reranker(settings.rerank, mllm=mllm))
    # the tern is among the two best and gets put first; the gull stays where its score put it
    assert found.ranks.tolist() == [1, 4]
    assert found.rows["oracle rerank"].top1.value == 0.5
    assert {name for _, name in options(mllm.asked[0].text)} == {"gull", "tern"}


def test_auto_asks_where_the_confidences_are_near(tmp_path):
    settings = load_settings(
        overrides=["rerank.when=auto", "rerank.model=none", "rerank.cache=off", "rerank.margin=0.5"]
    )
    mllm = preferring(["owl"])
    scored = ScoredImages(NAMES, settings, temperature=0.1)
    item = ImageItem(b"a.png", str(tmp_path / "missing.png").encode())
    confident = np.array([[2, 0, 0, 0]], np.float32)
    scored.add(confident, np.array([0]), [item], ["0" * 64])
    reranker = open_reranker(settings.rerank, mllm=mllm)
    assert scored.reranked(reranker).rows["+ rerank"].top1.value == pytest.approx(1)
    assert not mllm.asked
