import json
import os
import pickle

import pytest
import torch

from tests.training.runs import PREPROCESSING, make_config, make_loader, make_model, write_data
from training.data.batch import map_input
from training.data.sources import open_sources
from training.data.token_cache import TokenCache, cache_key, fill_cache
from training.errors import TrainingError

pytestmark = pytest.mark.usefixtures("one_thread")
ANCHORS = {"anchors": {"divisions": 3, "sizes": [1, 2]}}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Data with some lines that cannot be used."""
    bad = ["{\n", json.dumps({"image": "gone.png", "caption": "x"}) + "\n"]
    return write_data(tmp_path_factory.mktemp("broken"), bad=bad)


def frozen(tiny_model, data, **changes):
    data_section = {"samples": {"max_bad_share": 1.0}}
    towers = {"image_tower": {"lr_share": 0}, "text_tower": {"lr_share": 0}}
    return make_config(tiny_model, data, data=data_section, **towers, **changes)


@pytest.mark.parametrize("decoder", [{}, ANCHORS])
def test_cached_batches_are_the_direct_ones(tiny_model, broken, tmp_path, decoder):
    config = frozen(tiny_model, broken, decoder=decoder)
    model = make_model(config).eval()
    source = open_sources(config.data.train)
    fill_cache(tmp_path / "key", source, config.data.samples, PREPROCESSING, model.read_images, workers=2)
    cached = make_loader(config, samples=TokenCache(tmp_path / "key", 8))
    direct = make_loader(config)
    for _ in range(2):
        for cached_batch, shown in zip(cached, direct, strict=True):
            assert (cached_batch.keys, cached_batch.captions, cached_batch.descriptions) == (
                shown.keys,
                shown.captions,
                shown.descriptions,
            )
            for name in ("boxes_cxcywh", "box_mask", "description_box"):
                assert torch.equal(getattr(cached_batch, name), getattr(shown, name)), name
            assert cached_batch.rejects == shown.rejects
            fresh = model.read_images(shown.pixels)
            assert cached_batch.cached.grid_hw == fresh.grid_hw
            assert cached_batch.cached.tokens.dtype == torch.float16
            torch.testing.assert_close(cached_batch.cached.tokens.float(), fresh.tokens, atol=2e-3, rtol=1e-3)
            assert (cached_batch.cached.image is None) == (fresh.image is None)
            if fresh.image is not None:
                torch.testing.assert_close(cached_batch.cached.image, fresh.image)
                torch.testing.assert_close(cached_batch.cached.pooled, fresh.pooled)
            outputs, expected = model(cached_batch), model(shown)
            torch.testing.assert_close(outputs.decoded.image, expected.decoded.image, atol=3e-3, rtol=0)
            torch.testing.assert_close(outputs.decoded.boxes_cxcywh, expected.decoded.boxes_cxcywh, atol=3e-3, rtol=0)
        assert cached.rejects == direct.rejects
        assert cached.rejects.bad > 0


def test_a_batch_of_tokens_is_cut_into_parts(tiny_model, pictures, tmp_path):
    config = frozen(tiny_model, pictures, decoder=ANCHORS)
    model = make_model(config).eval()
    fill_cache(tmp_path / "key", open_sources(config.data.train), config.data.samples, PREPROCESSING, model.read_images)
    batch = next(iter(make_loader(config, samples=TokenCache(tmp_path / "key", 8))))
    whole, parts = model(batch), [model(batch.part(0, 3)), model(batch.part(3, 4))]
    torch.testing.assert_close(torch.cat([part.decoded.image for part in parts]), whole.decoded.image)
    assert map_input(None, torch.clone) is None


def test_another_process_maps_the_files_anew(tiny_model, pictures, tmp_path):
    config = frozen(tiny_model, pictures)
    source = open_sources(config.data.train)
    fill_cache(tmp_path / "key", source, config.data.samples, PREPROCESSING, make_model(config).read_images)
    cache = TokenCache(tmp_path / "key", 8)
    pickled = pickle.dumps(cache)
    assert len(pickled) < 500
    assert len(pickle.loads(pickled)) == len(cache) == 16


def test_the_key_follows_tower_data_and_settings(tiny_model, tmp_path):
    data = write_data(tmp_path / "d", 2)
    settings = frozen(tiny_model, data).data.samples
    key = cache_key("tower", [data], settings, dense=True)
    assert cache_key("tower", [data], settings.model_copy(update={"max_bad_share": 0.1}), dense=True) == key
    others = {
        cache_key("other", [data], settings, dense=True),
        cache_key("tower", [data], settings, dense=False),
        cache_key("tower", [data], settings.model_copy(update={"max_boxes": 1}), dense=True),
    }
    os.utime(data, (1, 1))
    others.add(cache_key("tower", [data], settings, dense=True))
    assert len(others | {key}) == 5


def test_an_interrupted_cache_is_made_again(tiny_model, pictures, tmp_path):
    config = frozen(tiny_model, pictures)
    source = open_sources(config.data.train)

    def fail(pixels):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fill_cache(tmp_path / "key", source, config.data.samples, PREPROCESSING, fail)
    assert not (tmp_path / "key").exists()
    fill_cache(tmp_path / "key", source, config.data.samples, PREPROCESSING, make_model(config).read_images)
    fill_cache(tmp_path / "key", source, config.data.samples, PREPROCESSING, fail)  # it is there
    assert len(TokenCache(tmp_path / "key", 8)) == 16


def test_data_without_a_good_sample_makes_no_cache(tiny_model, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("{\n{\n")
    config = frozen(tiny_model, path)
    with pytest.raises(TrainingError, match="not one sample"):
        fill_cache(
            tmp_path / "key", open_sources([path]), config.data.samples, PREPROCESSING, make_model(config).read_images
        )
