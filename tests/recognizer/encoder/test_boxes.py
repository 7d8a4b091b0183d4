import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_convert, box_iou, generalized_box_iou

from recognizer.encoder.boxes import at_least_float32, cxcywh_to_xyxy, giou, pairwise_giou, pairwise_iou, vote_boxes
from tests.reference import giou_of_two, iou_of_two, voted_boxes

numbers = st.floats(-4, 4, width=32)
any_box = st.tuples(numbers, numbers, numbers, numbers)


def boxes_xyxy(*shape, seed=0, dtype=torch.float32):
    corners = torch.rand(*shape, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=dtype).sort(-2).values
    return corners.flatten(-2)


def test_width_comes_before_height():
    assert cxcywh_to_xyxy(torch.tensor([0.5, 0.5, 0.2, 0.4])).tolist() == pytest.approx([0.4, 0.3, 0.6, 0.7])


def test_the_format_is_that_of_torchvision():
    xyxy = boxes_xyxy(3, 5)
    torch.testing.assert_close(cxcywh_to_xyxy(box_convert(xyxy, "xyxy", "cxcywh")), xyxy)


def test_giou_and_iou_are_those_of_torchvision():
    one, other = boxes_xyxy(7), boxes_xyxy(5, seed=1)
    torch.testing.assert_close(pairwise_giou(one, other), generalized_box_iou(one, other))
    torch.testing.assert_close(pairwise_iou(one, other), box_iou(one, other))
    empty = torch.zeros(2, 4)
    assert pairwise_iou(empty, empty).abs().sum() == 0


def test_pairwise_and_elementwise_agree_in_value_and_gradient():
    one = boxes_xyxy(2, 4, dtype=torch.float64).requires_grad_()
    other = boxes_xyxy(2, 4, seed=1, dtype=torch.float64)
    pairwise = pairwise_giou(one, other).diagonal(dim1=1, dim2=2)
    elementwise = giou(one, other)
    torch.testing.assert_close(pairwise, elementwise)
    (from_pairs,) = torch.autograd.grad(pairwise.square().sum(), one)
    (from_elements,) = torch.autograd.grad(elementwise.square().sum(), one)
    torch.testing.assert_close(from_pairs, from_elements)


def test_gradient_of_giou_is_its_slope():
    one, other = boxes_xyxy(6, dtype=torch.float64), boxes_xyxy(6, seed=1, dtype=torch.float64)
    assert torch.autograd.gradcheck(giou, (one.requires_grad_(), other.requires_grad_()))


@settings(max_examples=200)
@given(any_box, any_box)
def test_giou_of_any_numbers_is_finite_and_between_minus_one_and_one(one, other):
    boxes = torch.tensor([one, other], dtype=torch.float64, requires_grad=True)
    value = giou(boxes[0], boxes[1])
    value.backward()
    value = float(value.detach())
    assert -1 - 1e-9 <= value <= 1 + 1e-9
    assert torch.isfinite(boxes.grad).all()
    upright = [(x0, y0, max(x0, x1), max(y0, y1)) for x0, y0, x1, y1 in (one, other)]
    assert value == pytest.approx(giou_of_two(*upright), abs=1e-9)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 1, 1, 1], [1, 1, 1, 1], 0),  # two equal points
        ([0, 0, 0, 4], [0, 2, 0, 6], 0),  # two lines, one behind the other
        ([1, 1, 1, 1], [0, 0, 2, 2], 0),  # a point in a box: no intersection, the hull is the box
        ([0, 0, 2, 2], [0, 0, 2, 2], 1),
        ([0, 0, 1, 1], [1, 0, 2, 1], 0),  # touching
        ([0, 0, 1, 1], [3, 0, 4, 1], -0.5),  # apart by twice their width
    ],
)
def test_degenerate_and_exact_cases(one, other, expected):
    assert float(giou(torch.tensor(one).float(), torch.tensor(other).float())) == pytest.approx(expected)


def test_half_precision_is_computed_in_float32():
    small = torch.tensor([0.5, 0.5, 0.5005, 0.5005], dtype=torch.float16)  # its area is 0 in half precision
    assert giou(small, small).dtype == torch.float32
    assert float(giou(small, small)) == pytest.approx(1)
    assert at_least_float32(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_no_boxes_have_no_pairs():
    assert pairwise_giou(torch.zeros(2, 0, 4), torch.zeros(2, 3, 4)).shape == (2, 0, 3)
    assert giou(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


@st.composite
def box_sets(draw):
    count = draw(st.integers(1, 6))
    side = st.integers(1, 12)
    corners = st.tuples(st.integers(0, 8), st.integers(0, 8), side, side)
    boxes = [(x, y, x + w, y + h) for x, y, w, h in draw(st.lists(corners, min_size=count, max_size=count))]
    trust = draw(st.lists(st.floats(0.01, 1), min_size=count, max_size=count))
    return boxes, trust


@given(box_sets(), st.sampled_from([0.25, 0.3, 0.5, 1.0]))
def test_votes_equal_the_loop_over_boxes(boxes_and_trust, overlap):
    boxes, trust = boxes_and_trust
    found = vote_boxes(torch.tensor([boxes], dtype=torch.float64), torch.tensor([trust]).double(), overlap)
    np.testing.assert_allclose(found[0].numpy(), voted_boxes(boxes, trust, overlap), atol=1e-6)


@given(box_sets())
def test_overlaps_equal_the_loop_over_pairs(boxes_and_trust):
    boxes, _ = boxes_and_trust
    found = pairwise_iou(*2 * [torch.tensor([boxes], dtype=torch.float64)])[0].numpy()
    np.testing.assert_allclose(found, [[iou_of_two(a, b) for b in boxes] for a in boxes], atol=1e-12)


def test_an_overlap_of_exactly_the_threshold_is_a_vote():
    boxes = torch.tensor([[[0, 0, 2, 2.0], [0, 0, 2, 1]]])  # IoU 0.5
    torch.testing.assert_close(vote_boxes(boxes, torch.ones(1, 2), 0.5)[0, 0], torch.tensor([0, 0, 2, 1.5]))
    assert torch.equal(vote_boxes(boxes, torch.ones(1, 2), 0.51), boxes)


def test_boxes_of_another_image_have_no_vote():
    boxes = torch.tensor([[[0, 0, 4, 4.0]], [[0, 0, 4, 5.0]]])
    assert torch.equal(vote_boxes(boxes, torch.ones(2, 1), 0.3), boxes)


def test_the_trusted_box_leads_and_a_distant_one_stays():
    boxes = torch.tensor([[[0, 0, 10, 10.0], [2, 0, 12, 10], [50, 50, 60, 60]]])
    first, second, distant = vote_boxes(boxes, torch.tensor([[0.9, 0.1, 0.5]]), 0.3)[0]
    torch.testing.assert_close(first, torch.tensor([0.2, 0, 10.2, 10]))
    torch.testing.assert_close(second, first)
    torch.testing.assert_close(distant, boxes[0, 2])


def test_boxes_without_area_or_trust_stay_where_they_are():
    boxes = torch.tensor([[[1, 1, 1, 1.0], [3, 3, 5, 5]]])
    assert torch.equal(vote_boxes(boxes, torch.zeros(1, 2), 0.3), boxes)
