import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests import reference
from tests.training.made_up import assert_same_slope, average, gradient_of, pairs_of, unit
from training.contrastive import (
    LOG_SCALE_LIMIT,
    hash_texts,
    image_text_contrastive,
    image_text_sigmoid,
    region_description_contrastive,
    region_description_sigmoid,
)
from training.distributed import Rows
from training.objective import gather_described

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


@dataclass(frozen=True)
class Descriptions:
    """(T, D) vectors, (T,) ids and the (T, 2) image and box slot of texts."""

    vectors: torch.Tensor
    ids: torch.Tensor
    boxes: torch.Tensor


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
    rows = zip(descriptions.boxes.tolist(), descriptions.ids.tolist(), descriptions.vectors, strict=True)
    return [(i, m, text, vector) for (i, m), text, vector in rows]


def one_rank(*tensors):
    return [Rows.of_one_rank(tensor) for tensor in tensors]


def image_text(images, texts, ids, log_scale=LOG_SCALE):
    return average(image_text_contrastive(*one_rank(images, texts, ids), log_scale))


def image_text_by_sigmoid(images, texts, ids, log_scale=LOG_SCALE, bias=BIAS_TENSOR):
    return average(image_text_sigmoid(*one_rank(images, texts, ids), log_scale, bias))


def region_description(regions, matches, texts):
    described = gather_described(regions, matches, texts.vectors, texts.ids, texts.boxes)
    return average(region_description_contrastive(described, LOG_SCALE))


def region_description_by_sigmoid(regions, matches, texts):
    described = gather_described(regions, matches, texts.vectors, texts.ids, texts.boxes)
    return average(region_description_sigmoid(described, LOG_SCALE, BIAS_TENSOR))


class TestImageText:
    images, texts, ids = unit(5, 6), unit(5, 6, seed=1)[[0, 1, 0, 2, 0]], hash_texts(CAPTIONS)

    def test_value_is_that_of_the_loops(self):
        term = image_text(self.images, self.texts, self.ids, LOG_SCALE)
        assert float(term) == pytest.approx(reference.slow_image_text(self.images, self.texts, CAPTIONS, SCALE))
        term = image_text_by_sigmoid(self.images, self.texts, self.ids, LOG_SCALE, BIAS_TENSOR)
        expected = reference.slow_image_text_sigmoid(self.images, self.texts, CAPTIONS, SCALE, BIAS)
        assert float(term) == pytest.approx(expected)

    def test_gradient_is_that_of_the_loops(self):
        def fast(images):
            return image_text(images, self.texts, self.ids, LOG_SCALE)

        def fast_sigmoid(texts):
            return image_text_by_sigmoid(self.images, texts, self.ids, LOG_SCALE, BIAS_TENSOR)

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
        torch.testing.assert_close(image_text(self.images, texts, ids, LOG_SCALE), plain)

    @pytest.mark.parametrize(
        ("ids", "candidates"),
        [([0, 1, 2, 3], [4, 4, 4, 4]), ([0, 0, 2, 3], [3, 3, 4, 4]), ([0, 0, 0, 0], [1, 1, 1, 1])],
    )
    def test_collinear_embeddings_cost_the_log_of_the_candidates(self, ids, candidates):
        same = unit(1, 6).expand(4, 6)
        term = image_text(same, same, torch.tensor(ids), LOG_SCALE)
        assert float(term) == pytest.approx(np.log(candidates).mean())

    def test_an_image_is_never_pushed_from_an_equal_caption(self):
        texts = unit(2, 6, seed=1)[[0, 0, 1]]
        images = functional.normalize(texts + torch.tensor([[0.1], [2.0], [0.1]]) * unit(3, 6), dim=-1)  # 0 is nearer

        def pull(ids):
            gradient = gradient_of(lambda x: image_text(x, texts, ids, LOG_SCALE), images)
            return -(gradient @ texts[0])

        assert (pull(torch.tensor([0, 0, 1]))[:2] > 0).all()
        assert pull(torch.tensor([0, 1, 2]))[0] < 0

    def test_one_image_costs_nothing_and_no_image_is_no_loss(self):
        for count in (1, 0):
            images = unit(max(count, 1), 6)[:count].requires_grad_()
            term = image_text(images, images.detach(), torch.arange(count), LOG_SCALE)
            term.backward()
            assert float(term.detach()) == pytest.approx(0, abs=1e-12)
            assert images.grad.abs().sum() == pytest.approx(0, abs=1e-12)

    def test_scale_is_held_to_a_hundred(self):
        limit, beyond = torch.tensor(LOG_SCALE_LIMIT), torch.tensor(9.0)
        at_limit = image_text(self.images, self.texts, self.ids, limit)
        assert torch.equal(image_text(self.images, self.texts, self.ids, beyond), at_limit)

    def test_autocast_and_half_precision_are_computed_in_float32(self):
        images, texts = self.images.bfloat16(), self.texts.bfloat16()
        expected = image_text(images.float(), texts.float(), self.ids, LOG_SCALE.float())
        with torch.autocast("cpu", torch.bfloat16):
            term = image_text(images, texts, self.ids, LOG_SCALE.float())
        assert term.dtype == torch.float32
        assert torch.equal(term, expected)

    def test_sigmoid_at_scale_zero_is_the_log_of_the_odds(self):
        term = image_text_by_sigmoid(
            self.images, self.texts, torch.arange(5), torch.tensor(-torch.inf), torch.tensor(0.0)
        )
        assert float(term) == pytest.approx(5 * math.log(2))


def test_equal_texts_have_equal_ids_whatever_their_case_and_spaces():
    ids = hash_texts(["A dog", "a  dog ", "a dogs", "", "\ud800"])
    assert ids.dtype == torch.int64
    assert ids[0] == ids[1]
    assert len(set(ids.tolist())) == 4
    assert hash_texts(["a dog"]).tolist() == ids[:1].tolist() == [-143298910849180985]
    assert hash_texts([]).shape == (0,)


class TestRegionDescription:
    contrastive = staticmethod(region_description)
    sigmoid = staticmethod(region_description_by_sigmoid)

    @pytest.mark.parametrize(("kind", "bias"), [("contrastive", None), ("sigmoid", BIAS)])
    def test_value_and_gradient_are_those_of_the_loops(self, kind, bias):
        regions, matches, descriptions = described_scene()

        def slow(x):
            return reference.slow_region_description(x, matches.query_of_box, with_vectors(descriptions), SCALE, bias)

        def fast(x):
            return getattr(self, kind)(x, matches, descriptions)

        assert float(fast(regions)) == pytest.approx(slow(regions))
        assert_same_slope(fast, slow, regions)

    @settings(max_examples=50)
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
            ids, inverse = descriptions.ids.unique(return_inverse=True)
            assert len(moved) == len(ids)
            return loss(replace(descriptions, vectors=moved[inverse]))

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
        term = region_description(regions, pairs_of([[0], [0], [0]], 1), descriptions)
        torch.testing.assert_close(term, image_text(regions[:, 0], texts, torch.arange(3)))

    def test_collinear_embeddings_cost_the_log_of_regions_and_of_distinct_texts(self):
        same = unit(1, 6)
        _, matches, descriptions = described_scene()
        collinear = replace(descriptions, vectors=same.expand(len(descriptions.vectors), 6))
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
        logits = SCALE * torch.stack([regions[0, 2], regions[3, 1]]) @ descriptions.vectors.T
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
