import numpy as np
import pytest
from PIL import Image

from memory import Category, EncoderMismatch, Memory
from recognizer import Encoder, Recognizer
from recognizer.images import ImageItem
from recognizer.retrieval import ApproximateRetriever, ExactRetriever
from recognizer.settings import load_settings


def test_photographs_of_the_demo_are_recognised(demo_recognizer, photos):
    names = ["astronaut", "cat", "coffee", "rocket", "cameraman"]
    rows = demo_recognizer.recognize([Image.open(photos / f"{name}.jpg").convert("RGB") for name in names], keys=names)
    labels = {row.path: row.label for row in rows}
    assert labels["cat"] == "tabby cat"
    assert labels["coffee"] == "cup of coffee"
    assert labels["rocket"] == "rocket launch"


def test_evidence_of_each_candidate_adds_up_and_lies_in_the_image(demo_recognizer, photos):
    photograph = Image.open(photos / "coffee.jpg")
    row = demo_recognizer.recognize([photograph])[0]
    assert len(row.candidates) == 5
    for candidate in row.candidates:
        assert sum(piece.contribution for piece in candidate.evidence) == pytest.approx(candidate.score, abs=1e-5)
        for piece in candidate.evidence:
            if piece.box_xyxy is not None:
                x0, y0, x1, y1 = piece.box_xyxy
                assert 0 <= x0 < x1 <= photograph.width
                assert 0 <= y0 < y1 <= photograph.height
    scores = [candidate.score for candidate in row.candidates]
    assert scores == sorted(scores, reverse=True)


def test_confidence_is_marked_uncalibrated_and_unknown_left_open(demo_recognizer, photos):
    row = demo_recognizer.recognize([Image.open(photos / "cat.jpg")])[0]
    assert row.calibrated is False
    assert row.unknown is None
    assert 0 < row.confidence <= 1


def test_calibrated_threshold_decides_unknown(demo_memory, starter, photos):
    photograph = Image.open(photos / "cat.jpg")
    for threshold, unknown in ((0.0, False), (1.0, True)):
        settings = load_settings(overrides=["score.calibrated=true", f"score.unknown_threshold={threshold}"])
        row = Recognizer(starter, Memory.open(demo_memory), settings=settings).recognize([photograph])[0]
        assert row.unknown is unknown


def test_memory_of_another_encoder_is_refused_with_both_names(demo_memory):
    other = Encoder.load("starter", "conse", device="cpu", precision="fp32")
    with pytest.raises(EncoderMismatch, match=r"starter.*starter"):
        Recognizer(other, Memory.open(demo_memory))


def test_fewer_categories_than_asked_for(starter, tmp_path, photos):
    Memory.build([Category("cat"), Category("dog")], tmp_path / "m", encoder=starter, templates=["{}"])
    row = Recognizer(starter, Memory.open(tmp_path / "m")).recognize([Image.open(photos / "cat.jpg")])[0]
    assert [candidate.category for candidate in row.candidates] == ["cat", "dog"]
    assert sum(candidate.confidence for candidate in row.candidates) == pytest.approx(1)


def test_approximate_search_agrees_with_exact_on_a_small_memory(starter, demo_memory, tmp_path, photos):
    exact = Memory.open(demo_memory)
    Memory.build(exact.vectors.categories, tmp_path / "m", encoder=starter, templates=exact.templates, index="hnsw")
    images = [Image.open(path) for path in sorted(photos.glob("*.jpg"))]
    approximate = Recognizer(starter, Memory.open(tmp_path / "m")).recognize(images)
    for one, other in zip(approximate, Recognizer(starter, exact).recognize(images), strict=True):
        assert [c.category for c in one.candidates] == [c.category for c in other.candidates]
        np.testing.assert_allclose([c.score for c in one.candidates], [c.score for c in other.candidates], atol=1e-6)


def test_no_images_give_no_rows(demo_recognizer):
    assert demo_recognizer.recognize([]) == []


def test_index_is_chosen_by_the_settings_and_else_by_the_memory(starter, demo_memory, tmp_path):
    exact = Memory.open(demo_memory)
    Memory.build(exact.vectors.categories, tmp_path / "m", encoder=starter, templates=exact.templates, index="hnsw")
    for index, folder, retriever in (
        ("auto", demo_memory, ExactRetriever),
        ("auto", tmp_path / "m", ApproximateRetriever),
        ("exact", tmp_path / "m", ExactRetriever),
    ):
        settings = load_settings(overrides=[f"run.index={index}"])
        assert isinstance(Recognizer(starter, Memory.open(folder), settings=settings).retriever, retriever)


def test_rows_carry_the_keys_of_their_images(demo_recognizer, photos):
    photograph = Image.open(photos / "cat.jpg").convert("RGB")
    features = demo_recognizer.encoder.encode_images([photograph, photograph])
    rows = demo_recognizer.rows(features, [ImageItem(b"a/b.jpg", b"x"), ImageItem(b"\xff.jpg", b"y")])
    assert [(row.path, row.path_b64) for row in rows] == [("a/b.jpg", None), ("\\xff.jpg", "/y5qcGc=")]
    named = demo_recognizer.recognize([photograph], keys=["größe.jpg"])[0]
    assert (named.path, named.path_b64) == ("größe.jpg", None)
