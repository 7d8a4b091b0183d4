import shutil

import pytest

from memory import Category, Memory
from memory.durable import file_sha256
from memory.remote import CALIBRATION
from recognizer.calibration.report import write_content
from recognizer.calibration.seen import seen_images, write_seen
from recognizer.errors import RecognizerError
from recognizer.images import list_images
from recognizer.memory_settings import calibration_file, calibration_place, memory_identity
from tests.memory.building import build
from tests.memory.fake_encoder import FakeEncoder
from tests.recognizer.commands import call

PLACES = {"tabby cat": "cat.jpg", "cup of coffee": "coffee.jpg", "rocket launch": "rocket.jpg"}


@pytest.fixture
def calibrated(demo_memory, photos, tmp_path):
    """A memory whose calibration was fitted on a cat, and labelled images with the cat under another name."""
    shutil.copytree(demo_memory, tmp_path / "memory")
    memory = Memory.open(tmp_path / "memory")
    settings = memory.directory / CALIBRATION
    write_content({"calibration": memory_identity(memory), "score": {"temperature": 0.02}}, settings)
    write_seen(settings, [file_sha256(photos / "cat.jpg")])
    names = {category.name for category in memory.bare_categories()}
    for label, name in PLACES.items():
        assert label in names
        (tmp_path / "labelled" / label).mkdir(parents=True)
        shutil.copy(photos / name, tmp_path / "labelled" / label / f"other_{name}")
    return tmp_path


def test_a_memory_on_an_object_store_has_the_list_there(calibrated, photos, object_store):
    address = object_store.new_address()
    memory = build([Category("a")], address, FakeEncoder())
    items = list(list_images([photos]))
    place = calibration_place(memory)
    write_seen(place, [file_sha256(photos / "cat.jpg")])
    assert not any(seen_images(memory, items))  # there is no calibration yet
    with calibration_file(memory, None) as path:
        write_content({"calibration": memory_identity(memory), "score": {"temperature": 0.02}}, path)
    for opened in (memory, Memory.open(address)):
        seen = seen_images(opened, items)
        assert [item.key for item, one in zip(items, seen, strict=True) if one] == ["cat.jpg"]


@pytest.mark.usefixtures("encoders_loaded_once")
def test_images_that_were_fitted_on_are_counted_once_and_can_be_left_out(calibrated):
    place = ("eval", calibrated / "labelled", "--memory", calibrated / "memory", "--device", "cpu")
    code, out, err = call(*place)
    assert code == 0
    assert err.count("fitted on 1 of these 3 images") == 1
    assert "--unseen" in err
    _, out, err = call(*place, "--unseen")
    assert "fitted on" not in err
    assert "2 images" in out
    for label in list(PLACES)[1:]:
        shutil.rmtree(calibrated / "labelled" / label)
    with pytest.raises(RecognizerError, match="fitted on all 1 image of"):
        call(*place, "--unseen")
    call("remove", "rocket launch", "--memory", calibrated / "memory")  # the calibration is of other tables now
    assert "fitted on 1 of" not in call(*place)[2]
