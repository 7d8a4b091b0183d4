import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests import reference
from training.losses import (
    LOG_SCALE_LIMIT,
    Descriptions,
    box_loss,
    hash_texts,
    image_text_contrastive,
    image_text_sigmoid,
    region_description_contrastive,
    region_description_sigmoid,
    region_overlap_loss,
    region_weight_loss,
    total_loss,
)
from training.matcher import Matches, match

SCALE, BIAS = 7.0, -2.0
LOG_SCALE, BIAS_TENSOR = torch.tensor(math.log(SCALE), dtype=torch.float64), torch.tensor(BIAS, dtype=torch.float64)
CAPTIONS = ["a dog", "a cat", "a dog", "two birds", "a dog"]

# (image, box, text): a text on three boxes, a box with two texts, a text twice on one box, a box without a text
DESCRIBED = [
    (0, 0, "wing"),
    (0, 1, "tail"),
    (0, 1, "wing"),
    (1, 0, "beak"),
    (3, 0, "wing"),
    (3, 2, "eye"),
    (3, 2, "eye"),
]


def unit(*shape, seed=0):
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(rows, dim=-1)


def pairs_of(query_of_box, queries):
    query_of_box = torch.tensor(query_of_box)
    box_of_query = torch.full((len(query_of_box), queries), -1)
    for i, m in (query_of_box >= 0).nonzero().tolist():
        box_of_query[i, query_of_box[i, m]] = m
    return Matches(query_of_box, box_of_query)


def described_scene(described=DESCRIBED, seed=1):
    """Four images of three box slots and four queries; image 2 has no boxes, box (3, 2) may be left over."""
    matches = pairs_of([[2, 0, -1], [3, -1, -1], [-1, -1, -1], [1, 2, 0]], 4)
    vectors = {
        text: unit(6, seed=seed + number) for number, text in enumerate(sorted({text for *_, text in described}))
    }
    descriptions = Descriptions(
        torch.stack([vectors[text] for *_, text in described]) if described else torch.zeros(0, 6, dtype=torch.float64),
        hash_texts([text for *_, text in described]),
        torch.tensor([place[:2] for place in described], dtype=torch.int64).reshape(-1, 2),
    )
    return unit(4, 4, 6), matches, descriptions


def with_vectors(descriptions):
    rows = zip(
        descriptions.description_box.tolist(), descriptions.text_ids.tolist(), descriptions.embeddings, strict=True
    )
    return [(i, m, text, vector) for (i, m), text, vector in rows]


def gradient_of(function, values):
    values = values.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(values), values)
    return gradient


def assert_same_slope(fast, slow, values):
    expected = reference.numerical_gradient(lambda moved: slow(torch.from_numpy(moved)), values.numpy())
    np.testing.assert_allclose(gradient_of(fast, values), expected, atol=1e-8)


class TestImageText:
    images, texts, ids = unit(5, 6), unit(5, 6, seed=1)[[0, 1, 0, 2, 0]], hash_texts(CAPTIONS)

    def test_value_is_that_of_the_loops(self):
        term = image_text_contrastive(self.images, self.texts, self.ids, LOG_SCALE)["image_text"]
        assert float(term) == pytest.approx(reference.slow_image_text(self.images, self.texts, CAPTIONS, SCALE))
        term = image_text_sigmoid(self.images, self.texts, self.ids, LOG_SCALE, BIAS_TENSOR)["image_text"]
        expected = reference.slow_image_text_sigmoid(self.images, self.texts, CAPTIONS, SCALE, BIAS)
        assert float(term) == pytest.approx(expected)

    def test_gradient_is_that_of_the_loops(self):
        def fast(images):
            return image_text_contrastive(images, self.texts, self.ids, LOG_SCALE)["image_text"]

        def fast_sigmoid(texts):
            return image_text_sigmoid(self.images, texts, self.ids, LOG_SCALE, BIAS_TENSOR)["image_text"]

        assert_same_slope(fast, lambda x: reference.slow_image_text(x, self.texts, CAPTIONS, SCALE), self.images)
        assert_same_slope(
            fast_sigmoid,
            lambda x: reference.slow_image_text_sigmoid(self.images, x, CAPTIONS, SCALE, BIAS),
            self.texts,
        )

    def test_distinct_captions_give_the_loss_of_clip(self):
        ids, texts = torch.arange(5), unit(5, 6, seed=1)
        logits = SCALE * self.images @ texts.T
        plain = (functional.cross_entropy(logits, ids) + functional.cross_entropy(logits.T, ids)) / 2
        torch.testing.assert_close(image_text_contrastive(self.images, texts, ids, LOG_SCALE)["image_text"], plain)

    @pytest.mark.parametrize(
        ("ids", "candidates"),
        [([0, 1, 2, 3], [4, 4, 4, 4]), ([0, 0, 2, 3], [3, 3, 4, 4]), ([0, 0, 0, 0], [1, 1, 1, 1])],
    )
    def test_collinear_embeddings_cost_the_log_of_the_candidates(self, ids, candidates):
        same = unit(1, 6).expand(4, 6)
        term = image_text_contrastive(same, same, torch.tensor(ids), LOG_SCALE)["image_text"]
        assert float(term) == pytest.approx(np.log(candidates).mean())

    def test_an_image_is_never_pushed_from_an_equal_caption(self):
        texts = unit(2, 6, seed=1)[[0, 0, 1]]
        images = functional.normalize(texts + torch.tensor([[0.1], [2.0], [0.1]]) * unit(3, 6), dim=-1)  # 0 is nearer

        def pull(ids):
            gradient = gradient_of(lambda x: image_text_contrastive(x, texts, ids, LOG_SCALE)["image_text"], images)
            return -(gradient @ texts[0])

        assert (pull(torch.tensor([0, 0, 1]))[:2] > 0).all()
        assert pull(torch.tensor([0, 1, 2]))[0] < 0

    def test_one_image_costs_nothing_and_no_image_is_no_loss(self):
        for count in (1, 0):
            images = unit(max(count, 1), 6)[:count].requires_grad_()
            term = image_text_contrastive(images, images.detach(), torch.arange(count), LOG_SCALE)["image_text"]
            term.backward()
            assert float(term.detach()) == pytest.approx(0, abs=1e-12)
            assert images.grad.abs().sum() == pytest.approx(0, abs=1e-12)

    def test_scale_is_held_to_a_hundred(self):
        limit, beyond = torch.tensor(LOG_SCALE_LIMIT), torch.tensor(9.0)
        at_limit = image_text_contrastive(self.images, self.texts, self.ids, limit)["image_text"]
        assert torch.equal(image_text_contrastive(self.images, self.texts, self.ids, beyond)["image_text"], at_limit)

    def test_autocast_and_half_precision_are_computed_in_float32(self):
        images, texts = self.images.bfloat16(), self.texts.bfloat16()
        expected = image_text_contrastive(images.float(), texts.float(), self.ids, LOG_SCALE.float())["image_text"]
        with torch.autocast("cpu", torch.bfloat16):
            term = image_text_contrastive(images, texts, self.ids, LOG_SCALE.float())["image_text"]
        assert term.dtype == torch.float32
        assert torch.equal(term, expected)

    def test_sigmoid_at_scale_zero_is_the_log_of_the_odds(self):
        term = image_text_sigmoid(
            self.images, self.texts, torch.arange(5), torch.tensor(-torch.inf), torch.tensor(0.0)
        )["image_text"]
        assert float(term) == pytest.approx(5 * math.log(2))


def test_equal_texts_have_equal_ids_whatever_their_case_and_spaces():
    ids = hash_texts(["A dog", "a  dog ", "a dogs", "", "\ud800"])
    assert ids.dtype == torch.int64
    assert ids[0] == ids[1]
    assert len(set(ids.tolist())) == 4
    assert hash_texts(["a dog"]).tolist() == ids[:1].tolist() == [-143298910849180985]
    assert hash_texts([]).shape == (0,)


class TestRegionDescription:
    def contrastive(self, regions, matches, descriptions):
        return region_description_contrastive(regions, matches, descriptions, LOG_SCALE)["region_description"]

    def sigmoid(self, regions, matches, descriptions):
        return region_description_sigmoid(regions, matches, descriptions, LOG_SCALE, BIAS_TENSOR)["region_description"]

    @pytest.mark.parametrize(("kind", "bias"), [("contrastive", None), ("sigmoid", BIAS)])
    def test_value_and_gradient_are_those_of_the_loops(self, kind, bias):
        regions, matches, descriptions = described_scene()

        def slow(x):
            return reference.slow_region_description(x, matches.query_of_box, with_vectors(descriptions), SCALE, bias)

        def fast(x):
            return getattr(self, kind)(x, matches, descriptions)

        assert float(fast(regions)) == pytest.approx(slow(regions))
        assert_same_slope(fast, slow, regions)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from("abcd")), max_size=9))
    def test_any_texts_on_any_boxes_agree_with_the_loops(self, described):
        regions, matches, descriptions = described_scene(described)
        for kind, bias in (("contrastive", None), ("sigmoid", BIAS)):
            slow = reference.slow_region_description(
                regions, matches.query_of_box, with_vectors(descriptions), SCALE, bias
            )
            values = regions.clone().requires_grad_()
            term = getattr(self, kind)(values, matches, descriptions)
            term.backward()
            assert float(term.detach()) == pytest.approx(slow, abs=1e-9)
            assert torch.isfinite(values.grad).all()

    def test_gradient_of_a_text_is_the_slope_of_all_its_places(self):
        regions, matches, descriptions = described_scene()

        def with_texts(moved, loss):
            ids, inverse = descriptions.text_ids.unique(return_inverse=True)
            assert len(moved) == len(ids)
            return loss(replace(descriptions, embeddings=moved[inverse]))

        texts = unit(4, 6, seed=9)
        assert_same_slope(
            lambda x: with_texts(x, lambda d: self.contrastive(regions, matches, d)),
            lambda x: with_texts(
                x, lambda d: reference.slow_region_description(regions, matches.query_of_box, with_vectors(d), SCALE)
            ),
            texts,
        )

    def test_distinct_texts_one_for_each_box_give_the_loss_of_clip(self):
        regions, texts = unit(3, 1, 6), unit(3, 6, seed=1)
        descriptions = Descriptions(texts, torch.arange(3), torch.tensor([[0, 0], [1, 0], [2, 0]]))
        term = region_description_contrastive(regions, pairs_of([[0], [0], [0]], 1), descriptions, LOG_SCALE)
        plain = image_text_contrastive(regions[:, 0], texts, torch.arange(3), LOG_SCALE)
        torch.testing.assert_close(term["region_description"], plain["image_text"])

    def test_collinear_embeddings_cost_the_log_of_regions_and_of_distinct_texts(self):
        same = unit(1, 6)
        _, matches, descriptions = described_scene()
        collinear = replace(descriptions, embeddings=same.expand(len(descriptions.embeddings), 6))
        term = self.contrastive(same.expand(4, 4, 6), matches, collinear)
        # Five regions, one with two of the four texts; four texts, one with three of the five regions.
        to_text, to_region = (4 * math.log(4) + math.log(3)) / 5, (3 * math.log(5) + math.log(3)) / 4
        assert float(term) == pytest.approx((to_text + to_region) / 2)

    def test_repeating_a_description_changes_nothing(self):
        regions, matches, descriptions = described_scene()
        _, _, twice = described_scene([*DESCRIBED, *DESCRIBED])
        for loss in (self.contrastive, self.sigmoid):
            torch.testing.assert_close(loss(regions, matches, twice), loss(regions, matches, descriptions))

    def test_descriptions_of_one_box_share_its_region(self):
        regions = unit(1, 2, 6)
        texts = torch.stack([regions[0, 1], regions[0, 1]])
        two = Descriptions(texts, torch.tensor([1, 2]), torch.tensor([[0, 0], [0, 0]]))
        gradient = gradient_of(lambda x: self.sigmoid(x, pairs_of([[1]], 2), two), regions)
        assert gradient[0, 0].abs().sum() == 0
        assert (gradient[0, 1] @ texts[0]) < 0  # both pull it the same way

    def test_only_queries_that_found_a_described_box_are_taught(self):
        regions, matches, descriptions = described_scene()
        for loss in (self.contrastive, self.sigmoid):
            taught = gradient_of(lambda x, loss=loss: loss(x, matches, descriptions), regions).abs().sum(-1) > 0
            # box (3, 1) found query 2 of image 3, but nothing describes it
            assert taught.nonzero().tolist() == [[0, 0], [0, 2], [1, 3], [3, 0], [3, 1]]

    def test_text_of_a_box_without_a_query_is_only_a_candidate(self):
        regions, matches, descriptions = described_scene([(0, 0, "wing"), (1, 2, "left over"), (3, 0, "eye")])
        value = float(self.contrastive(regions, matches, descriptions))
        logits = SCALE * torch.stack([regions[0, 2], regions[3, 1]]) @ descriptions.embeddings.T
        to_text = functional.cross_entropy(logits, torch.tensor([0, 2]))
        to_region = functional.cross_entropy(logits[:, [0, 2]].T, torch.tensor([0, 1]))
        assert value == pytest.approx(float(to_text + to_region) / 2)

    def test_a_batch_without_boxes_or_texts_is_zero_with_zero_gradient(self):
        regions = unit(2, 3, 6)
        nothing = Descriptions(unit(1, 6)[:0], hash_texts([]), torch.zeros(0, 2, dtype=torch.int64))
        one = Descriptions(unit(1, 6), hash_texts(["wing"]), torch.tensor([[0, 0]]))
        for matches, descriptions in (
            (pairs_of([[-1], [-1]], 3), nothing),
            (pairs_of([[], []], 3), nothing),
            (pairs_of([[0], [-1]], 3), nothing),
            (pairs_of([[-1], [-1]], 3), one),
        ):
            for loss in (self.contrastive, self.sigmoid):
                assert float(loss(regions, matches, descriptions)) == 0
                gradient = gradient_of(lambda x, a=(matches, descriptions), loss=loss: loss(x, *a), regions)
                assert gradient.abs().sum() == 0


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
        terms = box_loss(predicted, target, mask, matches)
        slow = self.slow(predicted, target, mask, matches)
        assert (float(terms["box_l1"]), float(terms["box_giou"])) == pytest.approx(slow)
        for place, name in enumerate(("box_l1", "box_giou")):
            assert_same_slope(
                lambda x, name=name: box_loss(x, target, mask, matches)[name],
                lambda x, place=place: self.slow(x, target, mask, matches)[place],
                predicted,
            )

    def test_perfect_boxes_cost_nothing(self):
        target, mask = torch.rand(3, 4, 4) * 0.5 + 0.1, torch.ones(3, 4, dtype=torch.bool)
        predicted = target.flip(1)
        terms = box_loss(predicted, target, mask, match(predicted, target, mask))
        assert float(terms["box_l1"]) == 0
        assert float(terms["box_giou"]) == pytest.approx(0, abs=1e-6)

    def test_only_matched_queries_get_a_gradient(self):
        predicted, target, mask, matches = self.scene()
        gradient = gradient_of(lambda x: total_loss(box_loss(x, target, mask, matches), weights_of_boxes()), predicted)
        assert torch.equal(gradient.abs().sum(-1) > 0, matches.box_of_query >= 0)

    def test_a_batch_without_boxes_is_zero_with_zero_gradient(self):
        for slots in (0, 2):
            predicted, mask = torch.rand(2, 3, 4), torch.zeros(2, slots, dtype=torch.bool)
            target = torch.full((2, slots, 4), torch.nan)
            matches = match(predicted, target, mask)
            terms = box_loss(predicted, target, mask, matches)
            assert [float(term) for term in terms.values()] == [0, 0]
            loss = gradient_of(
                lambda x, a=(target, mask, matches): total_loss(box_loss(x, *a), weights_of_boxes()), predicted
            )
            assert torch.equal(loss, torch.zeros_like(predicted))

    def test_degenerate_boxes_are_finite(self):
        target = torch.tensor([[[0.5, 0.5, 0.0, 0.0], [0.2, 0.2, 0.0, 0.3], [0.5, 0.5, -0.1, 0.2]]])
        predicted = torch.cat([target, torch.rand(1, 2, 4)], 1)
        mask = torch.ones(1, 3, dtype=torch.bool)
        matches = match(predicted, target, mask)
        terms = box_loss(predicted, target, mask, matches)
        assert all(torch.isfinite(term) for term in terms.values())
        gradient = gradient_of(lambda x: total_loss(box_loss(x, target, mask, matches), weights_of_boxes()), predicted)
        assert torch.isfinite(gradient).all()

    def test_a_prediction_that_is_not_finite_shows_only_if_it_is_matched(self):
        predicted, target, mask, _ = self.scene()
        predicted[0, 0] = torch.nan
        terms = box_loss(predicted, target, mask, match(predicted, target, mask))
        assert all(torch.isfinite(term) for term in terms.values())
        gradient = gradient_of(
            lambda x: total_loss(box_loss(x, target, mask, match(x, target, mask)), weights_of_boxes()), predicted
        )
        assert torch.isfinite(gradient).all()
        predicted[0] = torch.nan
        assert not torch.isfinite(box_loss(predicted, target, mask, match(predicted, target, mask))["box_l1"])


class TestRegionWeight:
    logits = 3 * unit(4, 4, seed=2)

    def test_value_and_gradient_are_those_of_the_loops(self):
        _, matches, _ = described_scene()
        term = region_weight_loss(self.logits, matches)["region_weight"]
        assert float(term) == pytest.approx(reference.slow_region_weight(self.logits, matches.query_of_box))
        assert_same_slope(
            lambda x: region_weight_loss(x, matches)["region_weight"],
            lambda x: reference.slow_region_weight(x, matches.query_of_box),
            self.logits,
        )

    def test_matched_queries_rise_and_the_others_fall(self):
        _, matches, _ = described_scene()
        gradient = gradient_of(lambda x: region_weight_loss(x, matches)["region_weight"], self.logits)
        assert torch.equal(gradient < 0, matches.box_of_query >= 0)

    def test_images_without_boxes_say_nothing(self):
        _, matches, _ = described_scene()
        gradient = gradient_of(lambda x: region_weight_loss(x, matches)["region_weight"], self.logits)
        assert gradient[2].abs().sum() == 0
        empty = pairs_of([[-1], [-1]], 4)
        assert float(region_weight_loss(self.logits[:2], empty)["region_weight"]) == 0


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
        term = region_overlap_loss(self.logits, predicted, target, self.mask)["region_weight"]
        assert float(term) == pytest.approx(sum(losses) / len(losses), rel=1e-5)

    def test_boxes_get_no_gradient_and_images_without_boxes_say_nothing(self):
        predicted, target = self.boxes()
        predicted.requires_grad_()
        logits = self.logits.clone().requires_grad_()
        region_overlap_loss(logits, predicted, target, self.mask)["region_weight"].backward()
        assert predicted.grad is None
        assert logits.grad[2].abs().sum() == 0
        assert logits.grad[:2].abs().min() > 0
        none = torch.zeros(3, 2, dtype=torch.bool)
        assert float(region_overlap_loss(self.logits, predicted, target, none)["region_weight"].detach()) == 0


def weights_of_boxes():
    return {"box_l1": 1.0, "box_giou": 1.0}


class TestTotal:
    terms = {"one": torch.tensor(2.0), "two": torch.tensor(5.0)}  # noqa: RUF012

    def test_is_the_weighted_sum(self):
        assert float(total_loss(self.terms, {"two": 0.1, "one": 3.0})) == pytest.approx(6.5)

    def test_a_term_without_a_weight_and_a_weight_without_a_term_are_named(self):
        with pytest.raises(ValueError, match=r"terms without: \['two'\], weights without: \['box_l1_0'\]"):
            total_loss(self.terms, {"one": 1.0, "box_l1_0": 1.0})
        with pytest.raises(ValueError, match="needs one weight"):
            total_loss({}, {})
