import json
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from recognizer.encoder.preprocessing import Preprocessing
from training.data.augment import AugmentSettings
from training.data.loader import DataSettings, Loader, Pictures, TrainingData, draw_descriptions, epoch_order
from training.data.manifest import Manifest
from training.data.record import BadSample, Rejects
from training.errors import DataError

SETTINGS = DataSettings(augment=AugmentSettings(crop_scale=(0.5, 1.0), flip=0.5), max_bad_share=1)
SMALL, WHOLE = (Preprocessing(size_hw, "letterbox", (0.5,) * 3, (0.5,) * 3) for size_hw in ((24, 32), (30, 40)))


def line(number):
    regions = [
        {"box_xyxy": [k, 2, 20 + k, 20], "description": f"thing {k} on the left", "score": k / 9}
        for k in range(number % 4)
    ]
    regions += [{"box_xyxy": [0, 2, 20, 20], "description": f"another word of {number}"}] * (number % 2)
    return {"image": f"{number}.png", "captions": [f"c{number}", f"d{number}", f"e{number}"], "regions": regions}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("data")
    for number in range(30):
        noise = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(base / f"{number}.png")
    return base


def manifest(folder, lines, name="m.jsonl"):
    path = folder / name
    path.write_text("".join(text if isinstance(text, str) else json.dumps(text) + "\n" for text in lines))
    return Manifest(path)


@pytest.fixture(scope="module")
def source(folder):
    return manifest(folder, map(line, range(30)))


def loader(source, settings=SETTINGS, *, batch_size=4, seed=0, **more):
    return Loader(source, Pictures(source, settings, SMALL), settings, batch_size=batch_size, seed=seed, **more)


def content(batch):
    arrays = (batch.pixels, batch.boxes_cxcywh, batch.box_mask, batch.description_box)
    return (batch.keys, batch.captions, batch.descriptions, [array.tolist() for array in arrays])


def test_an_epoch_shows_every_sample_once_and_the_next_in_another_order(source):
    batches = loader(source, batch_size=5)
    first, second = ([key for batch in batches for key in batch.keys] for _ in range(2))
    assert sorted(first) == sorted(second) == sorted(f"{number}.png" for number in range(30))
    assert first != second
    assert batches.epoch == 2


def test_the_same_seed_gives_the_same_batches_whatever_the_workers(source):
    plain, again, helped = ([content(b) for b in loader(source, workers=w)] for w in (0, 0, 2))
    assert plain == again == helped
    assert plain != [content(b) for b in loader(source, seed=1)]


def test_two_ranks_see_the_halves_of_each_batch_of_one(source):
    halves = [loader(source, batch_size=3, rank=rank, ranks=2) for rank in range(2)]
    for whole, first, second in zip(loader(source, batch_size=6), *halves, strict=True):
        assert whole.keys == first.keys + second.keys
        assert whole.captions == first.captions + second.captions
        assert torch.equal(whole.pixels, torch.cat([first.pixels, second.pixels]))


def test_captions_change_from_epoch_to_epoch(source):
    batches = loader(source, batch_size=5)
    seen = Counter(caption[0] for _ in range(4) for batch in batches for caption in batch.captions)
    assert set(seen) == {"c", "d", "e"}
    assert min(seen.values()) > 20


@pytest.mark.parametrize("taken", [0, 1, 3, 7, 9])
def test_a_resumed_run_continues_where_it_stopped(source, taken):
    def stream(batches):
        while True:
            yield from batches

    whole = stream(loader(source))
    expected = [content(next(whole)) for _ in range(12)]
    stopped = loader(source)
    batches = stream(stopped)
    for _ in range(taken):
        next(batches)
    state = json.loads(json.dumps(stopped.state_dict()))
    resumed = loader(source)
    resumed.load_state_dict(state)
    rest = stream(resumed)
    assert [content(next(rest)) for _ in range(12 - taken)] == expected[taken:]


def test_resuming_on_more_ranks_leaves_no_sample_out(source):
    alone = loader(source, batch_size=6)
    taken = next(iter(alone)).keys
    ranks = [loader(source, batch_size=4, rank=rank, ranks=2) for rank in range(2)]
    for rank in ranks:
        rank.load_state_dict(alone.state_dict())
    rest = [key for rank in ranks for batch in rank for key in batch.keys]
    assert sorted(taken + rest) == sorted(f"{number}.png" for number in range(30))


def test_a_position_of_other_data_or_another_seed_is_refused(source, folder):
    state = loader(source).state_dict()
    with pytest.raises(DataError, match="seed was 0 and is 1"):
        loader(source, seed=1).load_state_dict(state)
    with pytest.raises(DataError, match="length was 30 and is 2"):
        loader(manifest(folder, map(line, range(2)), "two.jsonl")).load_state_dict(state)


def test_the_loops_own_random_numbers_are_left_alone(source):
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    next(iter(loader(source)))
    assert torch.equal(torch.rand(1), wanted)


BAD = [
    "{\n",
    {"image": "gone.png", "captions": ["x"]},
    {"image": "0.png", "captions": [""]},
    {"image": "m.jsonl", "caption": "x"},
]


def test_bad_samples_are_counted_and_their_places_taken(source, folder):
    lines = [*map(line, range(16)), *BAD]
    lines[3]["regions"] = [{"box_xyxy": [9, 9, 1, 1], "description": "dog"}]
    batches = loader(manifest(folder, lines, "bad.jsonl"), workers=2)
    sizes = [len(batch) for batch in batches]
    assert sizes == [4] * 5
    bad = batches.rejects.samples
    assert set(bad) == {"not JSON", "missing image", "no caption", "unreadable image (E_NOT_IMAGE)"}
    assert batches.rejects.seen == 20 + batches.rejects.bad
    assert batches.rejects.parts["box with x1 <= x0 or y1 <= y0"] >= 1
    next(iter(batches))
    assert batches.rejects.seen < 20  # every epoch is counted by itself


def test_counts_survive_an_interruption(folder):
    source = manifest(folder, [*map(line, range(16)), *BAD], "bad.jsonl")
    whole, stopped, resumed = (loader(source) for _ in range(3))
    list(whole)
    batches = iter(stopped)
    for _ in range(3):
        next(batches)
    resumed.load_state_dict(stopped.state_dict())
    list(resumed)
    assert resumed.rejects == whole.rejects


def test_too_many_bad_samples_stop_the_run_with_the_counts(folder):
    source = manifest(folder, [*map(line, range(27)), *["{\n"] * 3], "some.jsonl")
    with pytest.raises(DataError, match=r"more than 5\.00% of the samples are bad: 3 of 33 .* not JSON 3"):
        list(loader(source, SETTINGS.model_copy(update={"max_bad_share": 0.05}), batch_size=5, seed=3))
    list(loader(source, SETTINGS.model_copy(update={"max_bad_share": 0.5}), batch_size=5))


def test_the_run_stops_as_soon_as_enough_was_seen(folder):
    source = manifest(folder, [*map(line, range(30)), *["{\n"] * 970], "most.jsonl")
    batches = loader(source, SETTINGS.model_copy(update={"max_bad_share": 0.1}))
    with pytest.raises(DataError, match="not JSON"):
        list(batches)
    assert batches.rejects.seen < 400


def test_data_without_a_good_sample_stops_at_once(folder):
    source = manifest(folder, ["{\n"] * 3, "none.jsonl")
    with pytest.raises(DataError, match=r"16 samples in a row cannot be used; .*not JSON 64"):
        next(iter(loader(source)))


def test_only_the_boxes_of_the_highest_scores_are_used(folder):
    regions = [
        {"box_xyxy": [k, 0, k + 9, 9], "description": f"b{k}", "score": s} for k, s in enumerate((0.2, 0.9, 0.5, 0.9))
    ]
    source = manifest(folder, [{"image": "0.png", "caption": "x", "regions": regions}], "scores.jsonl")
    settings = DataSettings(max_boxes=3, min_score=0.4)
    assert TrainingData(Pictures(source, settings, WHOLE), seed=0)[0, 0, 0].shown.descriptions == (
        ("b1",),
        ("b3",),
        ("b2",),
    )
    assert loader(source, settings, batch_size=2).steps_per_epoch == 1


def test_of_many_descriptions_some_are_drawn_in_their_order():
    said = (("a", "b", "c", "d"), ("e",), ("f", "g"))
    drawn = [draw_descriptions(said, 2, np.random.default_rng(seed)) for seed in range(60)]
    assert {one[0] for one in drawn} == {("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")}
    assert {one[1:] for one in drawn} == {(("e",), ("f", "g"))}


def test_shard_faults_are_in_the_counts_of_every_epoch(source, monkeypatch):
    monkeypatch.setattr(source, "parts", Counter({"shard cut short": 1}))
    batches = loader(source)
    for _ in range(2):
        list(batches)
        assert batches.rejects.parts["shard cut short"] == 1


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9).filter(any), st.integers(1, 4), st.integers(0, 5))
def test_an_order_holds_every_row_once_and_keeps_blocks_together(sizes, at_once, epoch):
    order = epoch_order(sizes, at_once, seed=1, epoch=epoch)
    assert sorted(order) == list(range(sum(sizes)))
    block_of = np.repeat(np.arange(len(sizes)), sizes)[order]
    runs = [block for place, block in enumerate(block_of) if place == 0 or block != block_of[place - 1]]
    if at_once == 1:
        assert len(runs) == len(set(runs))


def test_a_rejects_object_stands_for_a_slot_that_cannot_be_filled(folder):
    source = manifest(folder, ["{\n"], "one.jsonl")
    assert isinstance(TrainingData(Pictures(source, SETTINGS, SMALL), seed=0)[0, 0, 0], Rejects)


class Unreadable:
    """A million samples, none of which can be read."""

    def __init__(self):
        self.parts, self.block_sizes, self.rows = Counter(), (1000,) * 1000, []

    def __len__(self):
        return 1_000_000

    def make(self, row, rng, rejects):
        self.rows.append(row)
        raise BadSample("not there")


def test_the_order_of_an_epoch_takes_four_bytes_a_sample():
    source = Unreadable()
    tracemalloc.start()
    with pytest.raises(DataError, match="16 samples in a row"):
        next(iter(Loader(source, source, SETTINGS, batch_size=1, seed=3)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * len(source)
    order = epoch_order(source.block_sizes, SETTINGS.blocks_at_once, seed=3, epoch=0)
    assert (source.rows[0], order.nbytes) == (order[0], 4 * len(source))


def test_the_order_of_an_epoch_stays_so_that_earlier_runs_can_be_resumed():
    order = epoch_order([5, 0, 3, 9, 4], 2, seed=3, epoch=1)
    assert order.tolist() == [17, 18, 19, 20, 7, 4, 0, 3, 5, 6, 1, 2, 13, 11, 10, 14, 8, 9, 16, 15, 12]


@pytest.mark.parametrize("varied", ["seed", "epoch", "slot"])
def test_the_choices_for_a_sample_depend_on_seed_epoch_and_slot(source, varied):
    captions = set()
    for number in range(20):
        numbers = {"seed": 0, "epoch": 0, "slot": 0, varied: number}
        data = TrainingData(Pictures(source, SETTINGS, SMALL), seed=numbers["seed"])
        captions.add(data[numbers["epoch"], numbers["slot"], 7].shown.caption)
    assert captions == {"c7", "d7", "e7"}
