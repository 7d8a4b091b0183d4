import pytest
import torch

from tests.training.made_up import pairs_of, unit
from training.matcher import Matches, match
from training.objective import first_copies, gather_described, total_loss


class TestTotal:
    terms = {"one": torch.tensor(2.0), "two": torch.tensor(5.0)}  # noqa: RUF012

    def test_is_the_weighted_sum(self):
        assert float(total_loss(self.terms, {"two": 0.1, "one": 3.0})) == pytest.approx(6.5)

    def test_a_term_without_a_weight_and_a_weight_without_a_term_are_named(self):
        with pytest.raises(ValueError, match=r"terms without: \['two'\], weights without: \['box_l1_0'\]"):
            total_loss(self.terms, {"one": 1.0, "box_l1_0": 1.0})
        with pytest.raises(ValueError, match="needs one weight"):
            total_loss({}, {})


def test_of_the_copies_of_a_box_the_one_of_the_lowest_query_is_described():
    torch.manual_seed(0)
    predicted, boxes = torch.rand(4, 12, 4), torch.rand(4, 3, 4)
    mask = torch.tensor([[True, True, True], [True, False, True], [False, False, False], [True, True, False]])
    repeated = match(predicted, boxes.repeat_interleave(3, 1), mask.repeat_interleave(3, 1))
    found = first_copies(repeated, 3)
    assert torch.equal(found.matched, mask)
    for image in range(4):
        for box in range(3):
            query = int(found.query_of_box[image, box])
            if mask[image, box]:
                assert query == repeated.query_of_box[image, 3 * box : 3 * box + 3].min()
                assert found.box_of_query[image, query] == box
    assert (found.box_of_query >= 0).sum() == mask.sum()


def test_which_copy_has_which_query_does_not_matter():
    # Copies cost the same, so a tie between them is broken by rounding: two machines break it in two ways.
    for of_copies in ([[4, 1, 0, 2], [-1, 3, -1, -1]], [[1, 4, 2, 0], [3, -1, -1, -1]]):
        found = first_copies(Matches.of_boxes(torch.tensor(of_copies), 5), 2)
        assert found.query_of_box.tolist() == [[1, 0], [3, -1]]
        assert found.box_of_query.tolist() == [[1, 0, -1, -1, -1], [-1, -1, -1, 0, -1]]


def test_a_text_points_to_the_region_of_its_box():
    regions, matches = unit(2, 3, 6), pairs_of([[2, -1], [-1, 0]], 3)
    boxes = torch.tensor([[0, 0], [0, 1], [1, 1], [1, 1]])
    described = gather_described(regions, matches, unit(4, 6), torch.arange(4), boxes)
    assert described.region_of_text.all.tolist() == [0, -1, 3, 3]
    assert torch.equal(described.regions.own[0], regions[0, 2])
    assert torch.equal(described.regions.own[3], regions[1, 0])
