import numpy as np
import pytest

from memory import Category
from memory.errors import LabelError
from recognizer.prior import PriorError, read_prior

CATEGORIES = [
    Category("red fox", "mammals", aliases=("Vulpes vulpes",)),
    Category("crane", "birds"),
    Category("crane", "machines"),
    Category("tabby cat", "mammals"),
    Category("cup of coffee"),
]


@pytest.fixture
def read(tmp_path):
    def read(text, warn=pytest.fail):
        path = tmp_path / "prior.csv"
        path.write_text(text)
        return read_prior(path, CATEGORIES, warn=warn)

    return read


def test_a_prior_is_relative_to_the_mean_which_names_without_a_row_have(read):
    prior = read("name,prior\nVulpes vulpes,6\ntabby cat,2\n\ncrane,0\n")
    np.testing.assert_allclose(prior.logarithms, [np.log(1.5), -np.inf, -np.inf, np.log(0.5), 0])
    assert prior.competing().tolist() == [True, False, False, True, True]
    assert prior.competing(np.array([1, 3])).tolist() == [False, True]


def test_where_only_exclusions_are_given_the_others_are_equally_common(read):
    assert read("name,prior\ncrane,0\n").logarithms.tolist() == [0, -np.inf, -np.inf, 0, 0]


def test_a_group_tells_equal_names_apart(read):
    prior = read("prior;group;name\n1e-3;birds;crane\n3e-3;machines;crane\n")
    np.testing.assert_allclose(prior.logarithms, [0, np.log(0.5), np.log(1.5), 0, 0], atol=1e-12)


def test_the_hash_is_that_of_the_priors_and_not_of_the_file(read):
    one = read("name,prior\nred fox,6\ntabby cat,2\n")
    assert read("prior\tname\n2.0\ttabby cat\n6\tred fox\n").sha256 == one.sha256
    assert read("name,prior\nred fox,6\ntabby cat,3\n").sha256 != one.sha256


def test_unknown_names_are_left_out_with_the_nearest_name(read):
    notes = []
    prior = read("name,group,prior\nred fix,,5\ncrane,fish,1\ntabby cat,mammals,2\n", warn=notes.append)
    assert prior.logarithms.tolist() == [0, 0, 0, 0, 0]
    (note,) = notes
    assert note.endswith("left out: not in the memory: 'red fix' (did you mean 'red fox'?); 'crane (fish)'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,prior\nred fox,-1\n", r"line 2: the prior '-1' is not a number of at least 0"),
        ("name,prior\ntabby cat,1\nred fox,often\n", r"line 3: the prior 'often' is not a number"),
        ("name,prior\nred fox,nan\n", r"line 2: the prior 'nan' is not a number"),
        ("name,prior\nred fox,inf\n", r"line 2: the prior 'inf' is not a number"),
        ("name,prior\nred fox,\n", r"line 2: the prior '' is not a number"),
        ("name,prior\nred fox,0,5\n", r"line 2: 3 cells for 2 columns"),
        ("name,prior\n,5\n", r"line 2: the row has no name"),
        ("name,prior\nred fox,1\nVulpes vulpes,2\n", r"line 3: 'Vulpes vulpes' has a prior already, on line 2"),
        ('name,prior\nred fox,1\n"crane,2\n', r"line 3: the row cannot be read"),
        ("name,share\nred fox,1\n", r"line 1: needs the columns name and prior.*it has 'name', 'share'"),
        ("name,prior\nred fox,0\ntabby cat,0\ncrane,0\ncup of coffee,0\n", r"the priors sum to 0"),
        ("name,prior\n", r"there are no rows"),
        ("name,prior\nred fix,1\n", r"no row names a category: not in the memory: 'red fix' \(did you mean"),
    ],
)
def test_what_cannot_be_a_prior_is_refused_with_its_line(read, text, message):
    with pytest.raises(PriorError, match=message):
        read(text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LabelError, match=r"none\.csv.*cannot be read"):
        read_prior(tmp_path / "none.csv", CATEGORIES, warn=pytest.fail)
