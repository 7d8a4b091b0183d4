import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from tests.reference import pair_costs
from training.matcher import Matches, box_cost, match


def random_batch(batch, queries, slots, *, seed=0, present=0.7):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, slots, generator=generator) < present
    return torch.rand(batch, queries, 4, generator=generator), torch.rand(batch, slots, 4, generator=generator), mask


def scipy_matches(predicted, target, mask):
    found = np.full(mask.shape, -1)
    for i, real in enumerate(mask.numpy()):
        slots = np.flatnonzero(real)
        rows, columns = linear_sum_assignment(pair_costs(predicted[i], target[i, slots]))
        found[i, slots[columns]] = rows
    return found


def assert_valid(matches: Matches, mask, queries):
    for i, real in enumerate(mask.tolist()):
        taken = [q for q in matches.query_of_box[i].tolist() if q >= 0]
        assert len(taken) == len(set(taken)) == min(queries, sum(real))
        assert all(there for there, q in zip(real, matches.query_of_box[i].tolist(), strict=True) if q >= 0)
        pairs = {(q, m) for m, q in enumerate(matches.query_of_box[i].tolist()) if q >= 0}
        assert pairs == {(q, m) for q, m in enumerate(matches.box_of_query[i].tolist()) if m >= 0}


@pytest.mark.parametrize(
    ("batch", "queries", "slots"),
    [
        (64, 5, 5),  # the paper's
        (64, 6, 6),  # the most that is enumerated
        (16, 6, 2),
        (16, 3, 6),  # more boxes than queries, enumerated
        (16, 1, 9),
        (8, 6, 9),  # too many assignments to enumerate
        (8, 12, 5),  # too many queries to enumerate
        (8, 7, 10),
        (1, 5, 3),  # one image
    ],
)
def test_pairs_are_those_of_the_hungarian_method(batch, queries, slots):
    predicted, target, mask = random_batch(batch, queries, slots)
    matches = match(predicted, target, mask)
    assert matches.query_of_box.tolist() == scipy_matches(predicted, target, mask).tolist()
    assert_valid(matches, mask, queries)


@settings(max_examples=60)
@given(
    st.integers(0, 3), st.integers(1, 8), st.integers(0, 8), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 10_000)
)
def test_total_cost_is_the_least_for_any_shape_and_mask(batch, queries, slots, present, seed):
    predicted, target, mask = random_batch(batch, queries, slots, seed=seed, present=present)
    matches = match(predicted, target, mask)
    assert_valid(matches, mask, queries)
    cost = box_cost(predicted, target).numpy() if slots else np.zeros((batch, queries, 0))
    for i, expected in enumerate(scipy_matches(predicted, target, mask)):
        found = matches.query_of_box[i].tolist()
        ours = sum(cost[i, q, m] for m, q in enumerate(found) if q >= 0)
        assert ours == pytest.approx(sum(cost[i, q, m] for m, q in enumerate(expected) if q >= 0), abs=1e-5)


def test_cost_is_written_pair_by_pair():
    predicted, target, _ = random_batch(2, 3, 4)
    costs = box_cost(predicted, target, l1_weight=3, giou_weight=0.5)
    for i in range(2):
        np.testing.assert_allclose(costs[i], pair_costs(predicted[i], target[i], 3, 0.5), atol=1e-5)


def test_weights_decide_what_is_near():
    target = torch.tensor([[[0.5, 0.5, 0.1, 0.1]]])
    beside, around = [0.61, 0.5, 0.1, 0.1], [0.5, 0.5, 0.2, 0.2]
    predicted, mask = torch.tensor([[beside, around]]), torch.ones(1, 1, dtype=torch.bool)
    assert match(predicted, target, mask, l1_weight=1, giou_weight=0).query_of_box.item() == 0
    assert match(predicted, target, mask, l1_weight=0, giou_weight=1).query_of_box.item() == 1


def test_an_image_is_matched_as_if_it_were_alone():
    predicted, target, mask = random_batch(6, 5, 4)
    together = match(predicted, target, mask).query_of_box
    alone = [match(predicted[i : i + 1], target[i : i + 1], mask[i : i + 1]).query_of_box for i in range(6)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize(("queries", "slots"), [(5, 3), (12, 3), (3, 5), (7, 9)])
def test_padding_may_hold_anything(queries, slots):
    predicted, target, mask = random_batch(8, queries, slots, present=0.6)
    for broken in (predicted[:, :1], torch.nan):
        predicted[:, :1] = broken
        expected = match(predicted, target, mask).query_of_box
        for junk in (torch.nan, torch.inf, 1e30, 1e15):
            padded = torch.where(mask[..., None], target, junk)
            assert torch.equal(match(predicted, padded, mask).query_of_box, expected)


@pytest.mark.parametrize("queries", [5, 9])
@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_a_prediction_that_is_not_finite_never_wins_against_a_finite_one(queries, broken):
    predicted, target, _ = random_batch(4, queries, 3)
    mask = torch.ones(4, 3, dtype=torch.bool)
    predicted[:, 0, 2] = broken
    predicted[:, 2] = broken
    matches = match(predicted, target, mask)
    assert_valid(matches, mask, queries)
    assert not ({0, 2} & set(matches.query_of_box.flatten().tolist()))
    whole = [q for q in range(queries) if q not in (0, 2)]
    without = match(predicted[:, whole], target, mask).query_of_box
    assert torch.equal(torch.tensor(whole)[without], matches.query_of_box)


@pytest.mark.parametrize(("queries", "slots"), [(4, 4), (3, 5), (8, 8), (7, 9)])
def test_what_is_left_is_matched_best_when_broken_predictions_must_be_used(queries, slots):
    predicted, target, _ = random_batch(3, queries, slots)
    mask = torch.ones(3, slots, dtype=torch.bool)
    predicted[:, 1] = torch.nan
    matches = match(predicted, target, mask)
    assert_valid(matches, mask, queries)
    if slots <= queries:
        whole = [q for q in range(queries) if q != 1]
        cost = box_cost(predicted, target)[:, whole].numpy()
        for i in range(3):
            rows, columns = linear_sum_assignment(cost[i])
            best = {(whole[q], m) for q, m in zip(rows, columns, strict=True)}
            assert best <= {(q, m) for m, q in enumerate(matches.query_of_box[i].tolist())}


def test_nothing_finite_still_gives_a_valid_assignment():
    for queries, slots in itertools.product((3, 8), (2, 5)):
        mask = torch.ones(2, slots, dtype=torch.bool)
        matches = match(torch.full((2, queries, 4), torch.nan), torch.rand(2, slots, 4), mask)
        assert_valid(matches, mask, queries)


def test_queries_that_predict_the_same_go_to_the_boxes_in_order():
    predicted = torch.full((2, 5, 4), 0.5)
    target, mask = torch.rand(2, 3, 4), torch.tensor([[True, True, True], [True, False, True]])
    assert match(predicted, target, mask).query_of_box[0].tolist() == [0, 1, 2]
    runs = [match(predicted, target, mask).query_of_box.tolist() for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]


def test_half_precision_is_matched_in_float32_also_under_autocast():
    predicted, target, mask = random_batch(32, 5, 5)
    predicted, target = predicted.bfloat16(), target.bfloat16()
    expected = match(predicted.float(), target.float(), mask).query_of_box
    with torch.autocast("cpu", torch.bfloat16):
        assert box_cost(predicted, target).dtype == torch.float32
        assert torch.equal(match(predicted, target, mask).query_of_box, expected)


def test_matching_has_no_gradient_and_can_be_repeated_after_inference_mode():
    predicted, target, mask = random_batch(2, 4, 4)
    with torch.inference_mode():
        match(predicted, target, mask)
    predicted.requires_grad_()
    assert not match(predicted, target, mask).query_of_box.requires_grad


def test_rows_of_queries_are_put_at_their_boxes():
    matches = Matches(torch.tensor([[2, -1, 0]]), torch.tensor([[2, -1, 0]]))
    values = torch.tensor([[[1.0, 1], [2, 2], [3, 3]]])
    assert matches.at_boxes(values)[0].tolist() == [[3, 3], [1, 1], [1, 1]]
    assert matches.matched.tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    "arguments",
    [
        (torch.rand(2, 5, 4), torch.rand(3, 5, 4), torch.ones(3, 5, dtype=torch.bool)),
        (torch.rand(2, 5, 4), torch.rand(2, 5, 5), torch.ones(2, 5, dtype=torch.bool)),
        (torch.rand(2, 5, 4), torch.rand(2, 5, 4), torch.ones(2, 4, dtype=torch.bool)),
        (torch.rand(2, 5, 4), torch.rand(2, 5, 4), torch.ones(2, 5)),
    ],
)
def test_shapes_that_do_not_fit_are_named(arguments):
    with pytest.raises(ValueError, match=r"expected predicted boxes \(B, Q, 4\).*got \(2, 5, 4\)"):
        match(*arguments)
