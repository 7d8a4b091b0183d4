"""Passes of one shape, against a forward function that shows what each pass is given."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from recognizer.encoder import Encoder, Frame, ImageFeatures
from recognizer.encoder.passes import PASS_SIZE, Passes, SmallerBatch

FRAME = Frame((8, 8), (0.0, 0.0), (1.0, 1.0))


class Recorder:
    """A forward function whose image vector is the mean of the pixels."""

    def __init__(self):
        self.shapes, self.threads = [], set()

    def __call__(self, pixels, frames):
        assert torch.is_inference_mode_enabled()
        assert torch.get_num_threads() == 1 or len(frames) != PASS_SIZE
        assert len(pixels) == len(frames)
        self.shapes.append(tuple(pixels.shape))
        self.threads.add(threading.current_thread().name)
        no_boxes = np.zeros((1, 0, 4), np.float32)
        none = no_boxes[..., 0]
        return [
            ImageFeatures(image.float().mean().reshape(1, 1).numpy(), no_boxes[..., :1], no_boxes, none, none)
            for image in pixels
        ]


def test_passes_of_one_image_need_no_blanks():
    forward = Recorder()
    Passes(torch.device("cpu"), 1).encode(forward, torch.zeros(3, 3, 8, 8, dtype=torch.uint8), [FRAME] * 3)
    assert forward.shapes == [(1, 3, 8, 8)] * 3


@pytest.mark.parametrize("images", [1, PASS_SIZE - 1, PASS_SIZE, PASS_SIZE + 1, 3 * PASS_SIZE])
def test_passes_on_the_cpu_have_one_shape_and_come_back_in_order(images):
    forward = Recorder()
    pixels = torch.arange(images, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(images, 3, 8, 8)
    features = Passes(torch.device("cpu")).encode(forward, pixels, [FRAME] * images)
    assert features.image[:, 0].tolist() == list(range(images))
    assert set(forward.shapes) == {(PASS_SIZE, 3, 8, 8)}
    assert len(forward.shapes) == -(-images // PASS_SIZE)
    assert all(name.startswith("encode") for name in forward.threads)


def test_other_devices_get_the_batch_as_it_is():
    forward = Recorder()
    Passes(torch.device("meta")).encode(forward, torch.zeros(7, 3, 8, 8, dtype=torch.uint8), [FRAME] * 7)
    assert forward.shapes == [(7, 3, 8, 8)]


def test_the_threads_of_others_stay_as_they_were():
    before = torch.get_num_threads()
    Passes(torch.device("cpu")).encode(Recorder(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [FRAME])
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert [torch.get_num_threads(), *seen] == [before, before]


def test_features_do_not_depend_on_the_number_of_cores(photos):
    before, paths = torch.get_num_threads(), sorted(photos.glob("*.jpg"))[:5]
    found = []
    try:
        for cores in (1, 3):
            torch.set_num_threads(cores)
            found.append(Encoder.load("starter", device="cpu", precision="fp32").encode_images(paths))
    finally:
        torch.set_num_threads(before)
    for name in ("image", "regions", "boxes_xyxy", "region_weight", "region_area"):
        assert np.array_equal(getattr(found[0], name), getattr(found[1], name)), name


def test_a_pass_that_the_memory_does_not_suffice_for_is_halved_once_and_for_later_batches():
    recorder, passes = Recorder(), Passes(torch.device("meta"))

    def forward(pixels, frames):
        if len(frames) > 3:
            raise torch.OutOfMemoryError("no memory")
        return recorder(pixels, frames)

    pixels = torch.arange(10, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(10, 3, 8, 8)
    with pytest.warns(SmallerBatch) as said:
        features = passes.encode(forward, pixels, [FRAME] * 10)
    assert features.image.ravel().tolist() == list(range(10))
    assert [str(one.message).split(" images")[0].split()[-1] for one in said] == ["10", "5"]
    assert passes.largest == 2
    assert [len(shape) and shape[0] for shape in recorder.shapes] == [2] * 5
    assert len(passes.encode(forward, pixels[:3], [FRAME] * 3)) == 3
    assert [shape[0] for shape in recorder.shapes[5:]] == [2, 1]


def test_one_image_that_the_memory_does_not_suffice_for_is_an_error():
    def forward(pixels, frames):
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError), pytest.warns(SmallerBatch):
        Passes(torch.device("meta")).encode(forward, torch.zeros(2, 3, 8, 8), [FRAME] * 2)
