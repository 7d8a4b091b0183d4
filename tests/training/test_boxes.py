import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_convert, box_iou, generalized_box_iou

from tests.reference import giou_of_two
from training.boxes import (
    at_least_float32,
    cxcywh_to_xyxy,
    giou,
    pairwise_giou,
    pairwise_iou,
)

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


@settings(max_examples=200, deadline=None)
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
