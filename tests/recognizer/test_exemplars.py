import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from recognizer.exemplars import Doubted, ExemplarHead, chosen_settings, equal_images
from recognizer.settings import ScoreSettings
from tests.recognizer.worlds import make_vectors, unit


def test_pieces_add_up_to_the_term_with_and_without_the_image_s_own_file():
    rng = np.random.default_rng(0)
    vectors, image = make_vectors(rng, [1, 0, 2, 0], [3, 0, 4, 1]), unit(rng, 8)
    head = ExemplarHead(vectors, ScoreSettings())
    for exclude in ("", "hash 2", "hash 7", "another"):
        term = head.term(image[None], [exclude])[0]
        for row, pieces in enumerate(head.weighed(head.kernels(image[None])[0], range(4), exclude, 3)):
            assert sum(piece.similarity * piece.coefficient for piece in pieces) == pytest.approx(term[row], abs=1e-5)
            assert len(pieces) == 4
            number = exclude.removeprefix("hash ")
            assert f"photo {number}" not in [piece.reference for piece in pieces]


def test_the_exemplars_that_are_named_are_those_that_add_or_take_away_most():
    rng = np.random.default_rng(6)
    vectors, image = make_vectors(rng, [1, 0, 2, 0], [3, 0, 4, 1]), unit(rng, 8)
    head = ExemplarHead(vectors, ScoreSettings())
    kernels = head.kernels(image[None])[0]
    for three, all_named in zip(
        head.weighed(kernels, range(4), "", 3), head.weighed(kernels, range(4), "", 99), strict=True
    ):
        assert three[:-1] == all_named[:3]
        amounts = [abs(piece.similarity * piece.coefficient) for piece in all_named[:-1]]
        assert len(amounts) == 8
        assert amounts == sorted(amounts, reverse=True)


def test_categories_of_the_nearest_exemplars():
    rng = np.random.default_rng(1)
    vectors = make_vectors(rng, [0] * 4, [3, 0, 4, 1])
    head = ExemplarHead(vectors, ScoreSettings())
    assert head.nearest_categories(vectors.exemplars[7], 1).tolist() == [3]
    assert head.nearest_categories(vectors.exemplars[7], 99).tolist() == [0, 2, 3]


def test_constants_are_those_of_the_settings_or_chosen():
    vectors = make_vectors(np.random.default_rng(2), [0] * 5, [1] * 5)
    fixed = ScoreSettings(head="proker", head_beta=2, head_ridge=0.7)
    assert (ExemplarHead(vectors, fixed).constants.beta, ExemplarHead(vectors, fixed).constants.ridge) == (2, 0.7)
    assert chosen_settings(vectors) == {"head": "proker", "head_beta": 1.0, "head_ridge": 0.3}
    assert chosen_settings(make_vectors(np.random.default_rng(2), [0])) == {}
    auto = ExemplarHead(vectors, ScoreSettings()).constants
    assert (auto.beta, auto.ridge) == (1.0, 0.3)


def test_doubted_and_disputed_exemplars_have_their_references_and_names():
    vectors = make_vectors(np.random.default_rng(3), [0] * 6, [2, 3, 2, 2, 2, 2], dim=64)
    # The exemplars of a category are alike, but one of category 0 and one of category 1 show categories 3 and 5.
    near = unit(np.random.default_rng(4), 6, 64)
    shown = np.array([0, 3, 1, 1, 5, 2, 2, 3, 3, 4, 4, 5, 5])
    exemplars = near[shown] + 0.02 * np.random.default_rng(5).normal(size=(13, 64)).astype(np.float32)
    exemplars /= np.linalg.norm(exemplars, axis=1, keepdims=True)
    head = ExemplarHead(replace(vectors, names=near, exemplars=exemplars), ScoreSettings())
    assert head.doubted() == [Doubted("photo 4", "name 1", "name 5")]
    first, second = head.disputed()
    assert first == Doubted("photo 1", "name 0", "name 3")
    assert (second.reference, second.category) == ("photo 0", "name 0")


def test_equal_files_of_one_category_are_no_problem():
    vectors = make_vectors(np.random.default_rng(3), [0, 0], [2, 1])
    vectors.exemplar_hashes[:] = ["a", "a", "b"]
    assert equal_images(vectors) == []
    vectors.exemplar_hashes[:] = ["a", "b", "a"]
    assert equal_images(vectors) == [("photo 0", "photo 2")]


def test_the_head_is_chosen_without_torch():
    code = "import sys; from recognizer.exemplars import store_head; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
