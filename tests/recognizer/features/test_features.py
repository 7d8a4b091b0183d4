"""Stored features: the same results by any route, and what happens when files, tables and disks go wrong."""

import os
import signal
import sqlite3
from dataclasses import replace

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from recognizer import Encoder, Recognizer
from recognizer.demo import DATA
from recognizer.encoder import ImageFeatures
from recognizer.features import REGION_FLOOR, FeatureStore, encode_or_read
from recognizer.features import table as table_module
from recognizer.features.stored_image import StoredFailure, StoredImage, from_table, to_table
from recognizer.images import ImageLimits, list_images
from recognizer.pipeline import encode_files, in_batches
from recognizer.results.lines import encode_row
from tests.forked import start
from tests.recognizer.worlds import make_features

PHOTOGRAPHS = ("cat.jpg", "coffee.jpg", "rocket.jpg", "clock.jpg")


@pytest.fixture
def folder(tmp_path):
    """Four photographs and a file that is no image, small so that encoding is all that takes time."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in PHOTOGRAPHS:
        (photos / name).write_bytes((DATA / "photos" / name).read_bytes())
    (photos / "text.jpg").write_text("no image")
    return photos


@pytest.fixture
def opened(starter, tmp_path):
    """Open the store in `tmp_path`; returns it with the list of its warnings."""
    stores = []

    def open_store(card=starter.card, limits=None, **options):
        warnings = []
        stores.append(
            FeatureStore(tmp_path / "features", card, limits or ImageLimits(), warn=warnings.append, **options)
        )
        return stores[-1], warnings

    yield open_store
    for store in stores:
        store.close()


def run(recognizer, folder, store=None, batch_size=2):
    """Recognise a folder; returns the bytes of its rows."""
    batches = encode_or_read(
        recognizer.encoder, in_batches(list_images([folder]), batch_size), features=store, workers=1
    )
    return b"".join(encode_row(row) for batch in batches for row in recognizer.batch_rows(batch))


def data_files(tmp_path):
    return sorted((tmp_path / "features").glob("*/images.lance/data/*"))


def test_rows_are_the_same_bytes_fresh_stored_and_mixed(demo_recognizer, folder, opened):
    fresh = run(demo_recognizer, folder, batch_size=5)
    some = folder.parent / "some"
    some.mkdir()
    for name in ("cat.jpg", "text.jpg"):
        (some / name).write_bytes((folder / name).read_bytes())
    store, warnings = opened()
    run(demo_recognizer, some, store)
    store.close()
    for encoded, found in ((3, 2), (0, 5), (0, 5)):
        store, warnings = opened()
        assert run(demo_recognizer, folder, store, batch_size=1 + found) == fresh
        assert (store.encoded, store.found, warnings) == (encoded, found, [])
        store.close()


def test_a_second_run_reads_no_picture(demo_recognizer, folder, opened):
    store, _ = opened()
    first = run(demo_recognizer, folder, store)
    store.close()
    for path in folder.iterdir():
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    store, _ = opened()
    assert run(demo_recognizer, folder, store) == first


def test_moved_files_are_known_by_content_and_replaced_ones_are_noticed(demo_recognizer, folder, opened):
    store, _ = opened()
    run(demo_recognizer, folder, store)
    store.close()
    moved = folder.rename(folder.with_name("moved"))
    (moved / "cat.jpg").rename(moved / "animal.jpg")
    store, _ = opened()
    run(demo_recognizer, moved, store)
    assert (store.encoded, store.found) == (0, 5)
    (moved / "animal.jpg").write_bytes((moved / "rocket.jpg").read_bytes())
    (moved / "clock.jpg").write_bytes((DATA / "photos" / "coins.jpg").read_bytes())
    assert run(demo_recognizer, moved, store) == run(demo_recognizer, moved)
    assert (store.encoded, store.found) == (1, 9)


def test_a_file_of_the_same_size_that_was_replaced_is_noticed(demo_recognizer, folder, opened):
    store, _ = opened()
    run(demo_recognizer, folder, store)
    cat, coffee = folder / "cat.jpg", folder / "coffee.jpg"
    size = max(cat.stat().st_size, coffee.stat().st_size)
    store.close()
    store, _ = opened()
    cat.write_bytes(cat.read_bytes().ljust(size, b"\0"))
    before = run(demo_recognizer, folder, store)
    status = cat.stat()
    cat.write_bytes(coffee.read_bytes().ljust(size, b"\0"))
    os.utime(cat, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    after = run(demo_recognizer, folder, store)
    assert after == run(demo_recognizer, folder) != before


def test_lasting_failures_are_stored_and_others_are_tried_again(demo_recognizer, folder, opened):
    (folder / "photo.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
    (folder / "big.jpg").write_bytes(bytes(2_000_000))
    limits = ImageLimits(max_file_bytes=1_000_000)
    images = [folder / name for name in ("big.jpg", "photo.jpg", "text.jpg")]
    store, _ = opened(limits=limits)

    def errors(store):
        batches = encode_or_read(
            demo_recognizer.encoder, in_batches(list_images(images), 3), features=store, limits=limits
        )
        return [str(error) for batch in batches for error in batch.errors]

    first = errors(store)
    store.close()
    store, _ = opened(limits=limits)
    assert errors(store) == first
    assert store.found == 1
    store.close()
    store, _ = opened(limits=limits, retry_errors=True)
    assert errors(store) == first
    assert store.found == 0


def test_features_of_others_are_ignored_and_counted(starter, demo_recognizer, folder, opened):
    store, _ = opened()
    run(demo_recognizer, folder, store)
    store.close()
    for card, limits in (
        (replace(starter.card, precision="bf16"), ImageLimits()),
        (replace(starter.card, fingerprint="0" * 64), ImageLimits()),
        (starter.card, ImageLimits(max_pixels=10_000)),
    ):
        store, warnings = opened(card, limits)
        assert all(known.stored is None for known in store.look_up(list_images([folder])))
        assert "features of 5 images that are not used" in warnings[0]
        store.close()


def test_damaged_rows_are_encoded_again(demo_recognizer, folder, opened, tmp_path):
    store, _ = opened()
    fresh = run(demo_recognizer, folder, store)
    store.close()
    (path,) = data_files(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # most of the file is vectors
    path.write_bytes(content)
    store, warnings = opened()
    assert run(demo_recognizer, folder, store) == fresh
    assert (store.encoded, len(warnings)) == (1, 1)
    assert "damaged" in warnings[0]
    store.close()
    store, warnings = opened()
    assert run(demo_recognizer, folder, store) == fresh
    assert (store.encoded, warnings) == (0, [])


@pytest.mark.parametrize("wreck", ["manifest", "data", "cut", "empty"])
def test_a_damaged_table_is_moved_aside_and_begun_anew(wreck, demo_recognizer, folder, opened, tmp_path):
    store, _ = opened()
    fresh = run(demo_recognizer, folder, store)
    store.close()
    (data,) = data_files(tmp_path)
    (manifest,) = data.parents[1].glob("_versions/*.manifest")
    if wreck == "manifest":
        manifest.write_bytes(b"x" * manifest.stat().st_size)
    elif wreck == "data":
        data.unlink()
    elif wreck == "cut":
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    else:
        manifest.unlink()
    store, warnings = opened()
    assert run(demo_recognizer, folder, store) == fresh
    assert len(warnings) == 1
    assert "stored anew" in warnings[0]
    store.close()
    assert (data.parents[2] / "images.damaged").is_dir()
    store, warnings = opened()
    assert run(demo_recognizer, folder, store) == fresh
    assert (store.encoded, warnings) == (0, [])


def test_damaged_hashes_of_files_never_answer(demo_recognizer, folder, opened, tmp_path):
    store, _ = opened()
    fresh = run(demo_recognizer, folder, store)
    store.close()
    database = tmp_path / "features" / "files.sqlite"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE files SET sha256 = (SELECT max(sha256) FROM files)")
    connection.close()
    store, warnings = opened()
    assert run(demo_recognizer, folder, store) == fresh
    assert (store.encoded, warnings) == (0, [])  # the files were read, and found by content
    store.close()
    database.write_bytes(b"SQLite format 3\0" + os.urandom(4000))
    store, warnings = opened()
    assert run(demo_recognizer, folder, store) == fresh
    assert store.encoded == 0
    assert [("made anew" in warning) for warning in warnings] == [True]


def test_a_full_disk_costs_stored_features_and_no_row(demo_recognizer, folder, opened, monkeypatch):
    class Full:
        def create_table(self, *_, **__):
            raise RuntimeError("LanceError(IO): No space left on device (os error 28)")

    monkeypatch.setattr(table_module, "FLUSH_ROWS", 1)
    monkeypatch.setattr(lancedb, "connect", lambda _: Full())
    store, warnings = opened()
    assert run(demo_recognizer, folder, store, batch_size=1) == run(demo_recognizer, folder)
    store.close()
    assert not store.writable
    assert len(warnings) == 1
    assert "not stored any more" in warnings[0]
    assert "No space left" in warnings[0]


def test_a_second_process_uses_features_and_stores_none(demo_recognizer, folder, opened):
    store, _ = opened()
    fresh = run(demo_recognizer, folder, store)
    store.table.flush()
    second, warnings = opened()
    (folder / "coins.jpg").write_bytes((DATA / "photos" / "coins.jpg").read_bytes())
    assert run(demo_recognizer, folder, second) == run(demo_recognizer, folder) != fresh
    assert (second.found, second.encoded, second.writable) == (5, 1, False)
    assert ["another process" in warning for warning in warnings] == [True]
    second.close()
    store.close()
    third, _ = opened()
    run(demo_recognizer, folder, third)
    assert (third.found, third.encoded) == (5, 1)


def test_a_folder_that_cannot_be_used_is_refused_or_only_read(starter, opened, tmp_path, monkeypatch):
    (tmp_path / "features").write_text("a file")
    with pytest.raises(Exception, match="cannot be a folder of features"):
        opened()
    (tmp_path / "features").unlink()
    (tmp_path / "features").mkdir()
    monkeypatch.setattr("recognizer.features.store.os.open", _refuse)
    store, warnings = opened()
    assert not store.writable
    assert "none are stored" in warnings[0]


def _refuse(*_):
    raise PermissionError(13, "Permission denied")


def die_at_the_third(folder, features):
    table_module.FLUSH_ROWS = 1
    encoder = Encoder.load("starter", device="cpu", precision="fp32")
    store = FeatureStore(features, encoder.card, ImageLimits(), warn=print)
    for number, _ in enumerate(encode_or_read(encoder, in_batches(list_images([folder]), 1), features=store)):
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_run_keeps_what_was_written(demo_recognizer, folder, opened, tmp_path):
    process = start(die_at_the_third, folder, tmp_path / "features")
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    store, warnings = opened()
    assert run(demo_recognizer, folder, store) == run(demo_recognizer, folder)
    assert (store.found, store.encoded, warnings) == (3, 2, [])


def test_regions_keep_their_numbers_and_only_light_ones_are_left_out(tmp_path, opened, starter):
    rng = np.random.default_rng(0)
    features = make_features(rng, images=2, regions=6, dim=starter.dim).rounded()
    features.region_weight[0] = [0.9, REGION_FLOOR, 0.049, 0.0, 0.5, 0.06]
    stored = StoredImage.of(features, 0, sha256="ab" * 32, size_hw=(30, 40))
    assert stored.numbers.tolist() == [0, 1, 4, 5]
    failure = StoredFailure("cd" * 32, "E_DECODE", "torn")
    read = list(from_table(to_table([failure, stored], starter.dim)))
    assert read[0] == failure
    for name in ("image", "numbers", "weights", "boxes_xyxy", "regions"):
        np.testing.assert_array_equal(getattr(read[1], name), getattr(stored, name))
    np.testing.assert_array_equal(read[1].regions.astype(np.float32), features.regions[0, [0, 1, 4, 5]])
    np.testing.assert_array_equal(read[1].boxes_xyxy, features.boxes_xyxy[0, [0, 1, 4, 5]])
    assert (read[1].size_hw, read[1].region_count) == ((30, 40), 6)


def test_a_row_whose_content_changed_is_not_read(starter):
    features = make_features(np.random.default_rng(1), dim=8).rounded()
    table = to_table([StoredImage.of(features, 0, sha256="ab" * 32, size_hw=(30, 40))], 8)
    assert len(list(from_table(table))) == 1
    for name, other in (("height", 31), ("width", 41), ("region_count", 5), ("sha256", "ff" * 32), ("crc32", 1)):
        column = table.schema.get_field_index(name)
        field = table.schema.field(name)
        changed = table.set_column(column, field, pa.array([other], field.type))
        assert list(from_table(changed)) == []


def test_vectors_of_every_batch_are_rounded(starter, folder):
    batch = next(encode_files(starter, in_batches(list_images([folder]), 5)))
    for vectors in (batch.features.image, batch.features.regions):
        np.testing.assert_array_equal(vectors, vectors.astype(np.float16).astype(np.float32))
    exact = starter.encode_images([Image.open(folder / "cat.jpg")])
    assert (exact.image != exact.rounded().image).any()
    np.testing.assert_array_equal(exact.rounded().region_weight, exact.region_weight)
    np.testing.assert_array_equal(exact.rounded().boxes_xyxy, exact.boxes_xyxy)
    assert isinstance(exact.rounded(), ImageFeatures)


def test_the_share_of_the_image_that_a_region_covers_is_the_same_fresh_and_stored(starter, folder, opened):
    batches = []
    for _ in range(2):
        store, _ = opened()
        batches += encode_or_read(starter, in_batches(list_images([folder]), 5), features=store, workers=1)
        store.close()
    fresh, stored = batches
    assert store.found == 5
    kept = fresh.features.region_weight >= REGION_FLOOR
    for number, (height, width) in enumerate(fresh.sizes_hw):
        x0, y0, x1, y1 = fresh.features.boxes_xyxy[number].T
        expected = (x1 - x0) * (y1 - y0) / (height * width)
        np.testing.assert_allclose(fresh.features.region_area[number], expected, rtol=1e-5)
    assert kept.any()
    np.testing.assert_array_equal(stored.features.region_area[kept], fresh.features.region_area[kept])


def test_folders_of_the_python_interface_use_stored_features(starter, demo_memory, folder, opened):
    from memory import Memory

    store, _ = opened()
    recognizer = Recognizer(starter, Memory.open(demo_memory), features=store)
    first, second = (list(recognizer.recognize_folder(folder)) for _ in range(2))
    store.table.flush()
    third = list(recognizer.recognize_folder(folder))
    assert first == second == third
    assert store.found == 5
