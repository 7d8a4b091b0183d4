import numpy as np
import pytest

from recognizer.benchmark.bench import Bench
from recognizer.benchmark.image_vectors import encode_vectors
from recognizer.benchmark.labelled_data import read_data
from recognizer.errors import RecognizerError
from recognizer.settings import Settings
from tests.recognizer.benchmark.seeing import SeeingBench, pictures


def test_vectors_are_found_by_the_number_of_the_image(tmp_path):
    pictures(tmp_path / "set", {"owl": ["owl", "screw"], "gull": ["gull"] * 4})
    (data,) = read_data(tmp_path / "set")
    bench = SeeingBench()
    images = encode_vectors(bench, data, np.array([5, 1, 4, 2]))
    assert images.decoded(np.arange(6)).tolist() == [1, 2, 4, 5]
    seen = [bench.seen(name) for name in ("gull", "owl", "screw")]
    np.testing.assert_allclose(images.of(np.array([2, 4, 5])), seen, rtol=1e-6)
    assert len(set(images.hashes_of(np.array([4, 5, 1])))) == 3


def test_images_that_cannot_be_decoded_have_no_vector(tmp_path, starter):
    pictures(tmp_path / "set", {"owl": ["owl"]})
    (tmp_path / "set" / "owl" / "broken.png").write_bytes(b"x")
    (data,) = read_data(tmp_path / "set")
    bench = Bench(starter, Settings())
    broken, whole = np.array([0]), np.array([1])
    images = encode_vectors(bench, data, np.array([0, 1]))
    assert (len(images.decoded(broken)), len(images.decoded(whole))) == (0, 1)
    with pytest.raises(RecognizerError, match="none of 1 images could be decoded"):
        encode_vectors(bench, data, broken)
