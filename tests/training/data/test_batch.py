import numpy as np
import pytest
import torch

from recognizer.encoder.towers import TowerOutput
from training.data.augment import Augmented
from training.data.batch import Sample, collate
from training.data.record import Rejects

# The boxes of each sample, as their number of descriptions.
SHAPES = ([], [1], [2, 1], [1, 3, 1], [])


def sample(number, boxes, *, cached=False):
    rng = np.random.default_rng(number)
    pixels = np.full((3, 0, 0) if cached else (3, 4, 6), number, np.uint8)
    texts = tuple(tuple(f"{number} {box} {k}" for k in range(count)) for box, count in enumerate(boxes))
    boxes_cxcywh = rng.random((len(boxes), 4)).astype(np.float32)
    inputs = TowerOutput(torch.full((1, 2, 3), float(number)), (1, 2), None, torch.full((1, 3), float(number)))
    shown = Augmented(pixels, f"caption {number}", boxes_cxcywh, texts)
    rejects = Rejects(seen=1)
    rejects.parts["empty caption"] = number
    return Sample(f"k{number}", shown, rejects, inputs if cached else None)


@pytest.fixture
def samples():
    return [sample(number, boxes) for number, boxes in enumerate(SHAPES)]


def check(batch, samples):
    """Every description is at its box, every box at its sample, and nothing else is there."""
    assert batch.keys == [one.key for one in samples]
    assert batch.captions == [one.shown.caption for one in samples]
    assert [row.sum().item() for row in batch.box_mask] == [len(one.shown.descriptions) for one in samples]
    assert not batch.boxes_cxcywh[~batch.box_mask].any()
    for row, one in enumerate(samples):
        own = batch.boxes_cxcywh[row][batch.box_mask[row]]
        assert torch.equal(own, torch.from_numpy(one.shown.boxes_cxcywh))
    expected = [
        (text, row, box)
        for row, one in enumerate(samples)
        for box, texts in enumerate(one.shown.descriptions)
        for text in texts
    ]
    places = batch.description_box.tolist()
    assert [(text, *place) for text, place in zip(batch.descriptions, places, strict=True)] == expected


def test_a_batch_keeps_each_description_at_its_box(samples):
    batch = collate(samples)
    assert len(batch) == 5
    assert (batch.pixels.shape, batch.pixels.dtype) == ((5, 3, 4, 6), torch.uint8)
    assert (batch.boxes_cxcywh.shape, batch.boxes_cxcywh.dtype) == ((5, 3, 4), torch.float32)
    assert (batch.rejects.seen, batch.rejects.parts["empty caption"]) == (5, 10)
    assert batch.cached is None
    check(batch, samples)


@pytest.mark.parametrize(("start", "stop"), [(0, 2), (1, 4), (3, 5), (4, 5)])
def test_a_part_is_a_batch_of_its_samples(samples, start, stop):
    part = collate(samples).part(start, stop)
    check(part, samples[start:stop])
    assert part.pixels[:, 0, 0, 0].tolist() == list(range(start, stop))
    assert part.rejects == Rejects()


def test_a_batch_without_boxes_has_an_empty_place_for_one(samples):
    batch = collate(samples[:1])
    assert batch.boxes_cxcywh.shape == (1, 1, 4)
    assert not batch.box_mask.any()
    assert batch.description_box.shape == (0, 2)


def test_cached_outputs_are_stacked_cut_and_left_out_for_the_losses(samples):
    batch = collate([sample(number, boxes, cached=True) for number, boxes in enumerate(SHAPES)])
    assert batch.cached.tokens.shape == (5, 2, 3)
    assert batch.cached.tokens[:, 0, 0].tolist() == batch.cached.pooled[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert batch.cached.image is None
    assert batch.part(2, 4).cached.tokens[:, 0, 0].tolist() == [2, 3]
    assert collate(samples).without_images().pixels.numel() == 0
    assert batch.without_images().cached is None
