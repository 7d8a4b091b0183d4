import math

import pytest
import torch

from tests import reference
from tests.training.made_up import assert_same_slope, average, gradient_of, pairs_of, unit
from training.box_losses import box_loss, region_overlap_loss, region_weight_loss
from training.distributed import average_over_ranks
from training.matcher import match

MATCHED = [[2, 0, -1], [3, -1, -1], [-1, -1, -1], [1, 2, 0]]  # query of each box slot; image 2 has no boxes


def box_terms(predicted, target, mask, matches):
    return average_over_ranks(box_loss(predicted, target, mask, matches))


class TestBoxes:
    def scene(self, batch=4, queries=5, slots=3, seed=0):
        generator = torch.Generator().manual_seed(seed)
        predicted, target = (torch.rand(batch, n, 4, generator=generator).double() for n in (queries, slots))
        mask = torch.arange(slots) < torch.tensor([3, 0, 1, 2, 3, 1])[:batch, None]
        return predicted, target, mask, match(predicted, target, mask)

    def slow(self, predicted, target, mask, matches):
        pairs = [(i, q, m) for i, row in enumerate(matches.query_of_box.tolist()) for m, q in enumerate(row) if q >= 0]
        return reference.slow_box_terms(predicted, [rows[real] for rows, real in zip(target, mask, strict=True)], pairs)

    @pytest.mark.parametrize("queries", [5, 2])  # with two, boxes are left over and still counted
    def test_values_and_gradients_are_those_of_the_loops(self, queries):
        predicted, target, mask, matches = self.scene(queries=queries)
        terms = box_terms(predicted, target, mask, matches)
        slow = self.slow(predicted, target, mask, matches)
        assert [float(term) for term in terms] == pytest.approx(slow)
        for place in range(2):
            assert_same_slope(
                lambda x, place=place: box_terms(x, target, mask, matches)[place],
                lambda x, place=place: self.slow(x, target, mask, matches)[place],
                predicted,
            )

    def test_perfect_boxes_cost_nothing(self):
        target, mask = torch.rand(3, 4, 4) * 0.5 + 0.1, torch.ones(3, 4, dtype=torch.bool)
        predicted = target.flip(1)
        terms = box_terms(predicted, target, mask, match(predicted, target, mask))
        assert float(terms[0]) == 0
        assert float(terms[1]) == pytest.approx(0, abs=1e-6)

    def test_only_matched_queries_get_a_gradient(self):
        predicted, target, mask, matches = self.scene()
        gradient = gradient_of(lambda x: sum(box_terms(x, target, mask, matches)), predicted)
        assert torch.equal(gradient.abs().sum(-1) > 0, matches.box_of_query >= 0)

    def test_a_batch_without_boxes_is_zero_with_zero_gradient(self):
        for slots in (0, 2):
            predicted, mask = torch.rand(2, 3, 4), torch.zeros(2, slots, dtype=torch.bool)
            target = torch.full((2, slots, 4), torch.nan)
            matches = match(predicted, target, mask)
            terms = box_terms(predicted, target, mask, matches)
            assert [float(term) for term in terms] == [0, 0]
            loss = gradient_of(lambda x, a=(target, mask, matches): sum(box_terms(x, *a)), predicted)
            assert torch.equal(loss, torch.zeros_like(predicted))

    def test_degenerate_boxes_are_finite(self):
        target = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.2, 0.2, 0.0, 0.3], [0.5, 0.5, -0.1, 0.2]]])
        predicted = torch.cat([target, torch.rand(1, 2, 4)], 1)
        mask = torch.ones(1, 3, dtype=torch.bool)
        matches = match(predicted, target, mask)
        terms = box_terms(predicted, target, mask, matches)
        assert all(torch.isfinite(term) for term in terms)
        gradient = gradient_of(lambda x: sum(box_terms(x, target, mask, matches)), predicted)
        assert torch.isfinite(gradient).all()

    def test_a_prediction_that_is_not_finite_shows_only_if_it_is_matched(self):
        predicted, target, mask, _ = self.scene()
        predicted[0, 0] = torch.nan
        terms = box_terms(predicted, target, mask, match(predicted, target, mask))
        assert all(torch.isfinite(term) for term in terms)
        gradient = gradient_of(lambda x: sum(box_terms(x, target, mask, match(x, target, mask))), predicted)
        assert torch.isfinite(gradient).all()
        predicted[0] = torch.nan
        assert not torch.isfinite(box_terms(predicted, target, mask, match(predicted, target, mask))[0])


class TestRegionWeight:
    logits = 3 * unit(4, 4, seed=2)

    def test_value_and_gradient_are_those_of_the_loops(self):
        matches = pairs_of(MATCHED, 4)
        term = average(region_weight_loss(self.logits, matches))
        assert float(term) == pytest.approx(reference.slow_region_weight(self.logits, matches.query_of_box))
        assert_same_slope(
            lambda x: average(region_weight_loss(x, matches)),
            lambda x: reference.slow_region_weight(x, matches.query_of_box),
            self.logits,
        )

    def test_matched_queries_rise_and_the_others_fall(self):
        matches = pairs_of(MATCHED, 4)
        gradient = gradient_of(lambda x: average(region_weight_loss(x, matches)), self.logits)
        assert torch.equal(gradient < 0, matches.box_of_query >= 0)

    def test_images_without_boxes_say_nothing(self):
        matches = pairs_of(MATCHED, 4)
        gradient = gradient_of(lambda x: average(region_weight_loss(x, matches)), self.logits)
        assert gradient[2].abs().sum() == 0
        empty = pairs_of([[-1], [-1]], 4)
        assert float(average(region_weight_loss(self.logits[:2], empty))) == 0


class TestRegionOverlap:
    logits = 3 * unit(3, 4, seed=2)
    mask = torch.tensor([[True, True], [True, False], [False, False]])

    def boxes(self):
        generator = torch.Generator().manual_seed(5)
        predicted = 0.2 + 0.4 * torch.rand(3, 4, 4, generator=generator)
        return predicted, 0.2 + 0.4 * torch.rand(3, 2, 4, generator=generator)

    def test_the_target_is_the_best_overlap_with_a_box_that_is_there(self):
        predicted, target = self.boxes()
        losses = []
        for image, slots in ((0, (0, 1)), (1, (0,))):
            for query in range(4):
                one = reference.corners(predicted[image, query])
                best = max(reference.iou_of_two(one, reference.corners(target[image, slot])) for slot in slots)
                chance = 1 / (1 + math.exp(-float(self.logits[image, query])))
                losses.append(-best * math.log(chance) - (1 - best) * math.log(1 - chance))
        term = average(region_overlap_loss(self.logits, predicted, target, self.mask))
        assert float(term) == pytest.approx(sum(losses) / len(losses), rel=1e-5)

    def test_boxes_get_no_gradient_and_images_without_boxes_say_nothing(self):
        predicted, target = self.boxes()
        predicted.requires_grad_()
        logits = self.logits.clone().requires_grad_()
        average(region_overlap_loss(logits, predicted, target, self.mask)).backward()
        assert predicted.grad is None
        assert logits.grad[2].abs().sum() == 0
        assert logits.grad[:2].abs().min() > 0
        none = torch.zeros(3, 2, dtype=torch.bool)
        assert float(average(region_overlap_loss(self.logits, predicted, target, none)).detach()) == 0
