import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recognizer.encoder.boxes import pairwise_iou, vote_boxes
from tests.reference import iou_of_two, voted_boxes


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
    found = pairwise_iou(torch.tensor([boxes], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(found, [[iou_of_two(a, b) for b in boxes] for a in boxes], atol=1e-12)


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
