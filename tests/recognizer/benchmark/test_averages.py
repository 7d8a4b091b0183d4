import pytest

from recognizer.benchmark.averages import averages
from recognizer.benchmark.table import BenchmarkRow


def test_what_every_set_has_is_averaged_seed_by_seed():
    rows = [
        BenchmarkRow("birds", "names", "cACC", [0.2, 0.4], 10),
        BenchmarkRow("birds", "names", "sACC", [0.5], 10),
        BenchmarkRow("cars", "names", "cACC", [0.6], 5),
        BenchmarkRow("cars", "names", "sACC", [], 5),
        BenchmarkRow("cars", "shots", "cACC", [0.6], 5),
    ]
    (average,) = averages(rows)
    assert (average.data, average.what, average.metric, average.n) == ("average of 2", "names", "cACC", 15)
    assert average.values == pytest.approx([0.4, 0.5])


def test_of_one_set_there_is_no_average():
    assert list(averages([BenchmarkRow("birds", "names", "cACC", [0.2], 10)])) == []
