import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from recognizer.cores import share_out, single_threads
from recognizer.score import Scorer
from recognizer.settings import ScoreSettings
from tests.recognizer.worlds import make_features, make_vectors


def blas_threads():
    """Those of NumPy: a library that is loaded later, such as SciPy's, keeps its own."""
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return {library["num_threads"] for library in found if "numpy" in library["filepath"]}


def test_blas_has_its_threads_again_when_the_last_one_leaves():
    with threadpool_limits(3, user_api="blas"):
        entered, leave = threading.Event(), threading.Event()

        def inside():
            with single_threads():
                entered.set()
                leave.wait()

        other = threading.Thread(target=inside)
        with single_threads():
            other.start()
            entered.wait()
            assert blas_threads() == {1}
        assert blas_threads() == {1}
        leave.set()
        other.join()
        assert blas_threads() == {3}


def test_every_part_is_done_and_errors_are_raised():
    done = []
    assert share_out(range(20), lambda part: done.append(part) or part**2) == [part**2 for part in range(20)]
    assert sorted(done) == list(range(20))
    with pytest.raises(ZeroDivisionError):
        share_out([1, 0, 2], lambda part: 1 / part)


def test_scores_are_the_same_bits_with_any_number_of_threads():
    rng = np.random.default_rng(0)
    vectors, features = make_vectors(rng, [3, 0, 5] * 400, dim=100), make_features(rng, images=5, regions=40, dim=100)
    found = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads, user_api="blas"):
            found.append(Scorer(vectors, ScoreSettings()).score(features).tobytes())
    assert found[0] == found[1] == found[2]
