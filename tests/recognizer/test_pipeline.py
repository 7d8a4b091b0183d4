import shutil

import numpy as np
import psutil
import pytest

from recognizer.images import ImageLimits, list_images
from recognizer.images.workers import STOCK
from recognizer.pipeline import encode_files, in_batches


@pytest.fixture
def folder(tmp_path, photos):
    for name in ("cat", "coffee", "rocket", "retina", "grass"):
        shutil.copy(photos / f"{name}.jpg", tmp_path / f"{name}.jpg")
    return tmp_path


def test_batches_come_in_order_on_a_fixed_grid(starter, folder):
    listing = list_images([folder])
    batches = list(encode_files(starter, in_batches(listing, 2), workers=3))
    assert [[item.key for item in batch.items] for batch in batches] == [
        ["cat.jpg", "coffee.jpg"],
        ["grass.jpg", "retina.jpg"],
        ["rocket.jpg"],
    ]
    assert [batch.number for batch in batches] == [0, 1, 2]


def test_a_batch_keeps_the_number_it_came_with(starter, folder):
    items = list_images([folder])
    batches = encode_files(starter, [(7, items[:1]), (9, items[1:2])])
    assert [(batch.number, batch.items[0].key) for batch in batches] == [(7, "cat.jpg"), (9, "coffee.jpg")]


def test_bad_image_holds_its_slot_and_changes_no_other(starter, folder):
    whole = next(encode_files(starter, in_batches(list_images([folder]), 5)))
    (folder / "grass.jpg").write_bytes(b"no picture")
    holed = next(encode_files(starter, in_batches(list_images([folder]), 5)))
    assert holed.positions == [0, 1, 3, 4]
    assert holed.errors[2].code == "E_NOT_IMAGE"
    assert np.array_equal(holed.features.image, whole.features.image[[0, 1, 3, 4]])
    assert np.array_equal(holed.features.regions, whole.features.regions[[0, 1, 3, 4]])
    assert len(holed.hashes) == 4


def test_batch_without_a_good_image_has_no_features(starter, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    batch = next(encode_files(starter, in_batches(list_images([tmp_path]), 4)))
    assert batch.features is None
    assert batch.errors[0].code == "E_EMPTY"


def test_large_photograph_keeps_the_displayed_frame(starter, tmp_path):
    from PIL import Image

    Image.effect_noise((2400, 1600), 80).convert("RGB").save(tmp_path / "large.jpg")
    batch = next(encode_files(starter, in_batches(list_images([tmp_path]), 1)))
    shown = batch.features.boxes_xyxy[0]
    # The noise is another one each time, and so are the regions; it was decoded at half its size or less.
    assert 2000 < shown[:, 2].max() <= 2400
    assert 1300 < shown[:, 3].max() <= 1600


def test_closing_early_stops_decoding(starter, folder):
    encoded = encode_files(starter, in_batches(list_images([folder]), 1))
    next(encoded)
    encoded.close()


@pytest.mark.parametrize(("copies", "most"), [(1, 1), (4, 3)])
def test_few_images_take_one_worker_and_many_as_many_as_they_may(starter, folder, copies, most):
    for number in range(copies):
        shutil.copy(folder / "cat.jpg", folder / f"{number}.jpg")
    STOCK.keep(0)
    before = len(psutil.Process().children())
    encoded = encode_files(starter, in_batches(list_images([folder]), 8), workers=3)
    next(encoded)
    taken = len(psutil.Process().children()) - before
    encoded.close()
    assert taken <= most
    assert len(psutil.Process().children()) - before <= 1


def test_image_that_hangs_the_decoder_is_an_error_among_good_ones(starter, folder):
    (folder / "d.ppm").write_bytes(b"P6\n" + b"#\n" * 2**25 + b"1 1\n255\nabc")
    batch = next(encode_files(starter, in_batches(list_images([folder]), 6), limits=ImageLimits(max_seconds=1.5)))
    assert [error and error.code for error in batch.errors] == [None, None, "E_TIMEOUT", None, None, None]
