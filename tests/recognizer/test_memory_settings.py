import json
import shutil
import subprocess
import sys

import pytest
import yaml

from memory import Category, Memory
from memory.remote import CALIBRATION
from recognizer.memory_settings import (
    FROM_MEMORY,
    carried_settings,
    memory_identity,
    read_calibration,
    sealed,
    stored_settings,
)
from recognizer.plain_yaml import MOST_BYTES
from recognizer.settings import Settings, load_settings
from recognizer.yaml_settings import SettingsError
from tests.recognizer.commands import call


@pytest.fixture
def memory_copy(demo_memory, tmp_path):
    return Memory.open(shutil.copytree(demo_memory, tmp_path / "memory"))


def write_calibration(memory, score, *, basis=None, **sections):
    content = {"calibration": memory_identity(memory) | (basis or {}), "score": score, **sections}
    (memory.directory / CALIBRATION).write_text(sealed(yaml.safe_dump(content)))


def built_with(starter, folder, settings):
    """Build a memory of one category that carries settings."""
    return Memory.build([Category("cat")], folder / "m", encoder=starter, templates=["{}"], settings=settings)


SETTINGS = [
    (section, key)
    for section, field in Settings.model_fields.items()
    for key in getattr(field.annotation, "model_fields", {None: None})
]
"""All settings, as section and key; the section of a calibration has no keys of its own."""
MAY = {
    ("score", "image_name"),
    ("score", "image_description"),
    ("score", "region_description"),
    ("score", "region_name"),
    ("score", "region_threshold"),
    ("score", "largest_region"),
    ("score", "head"),
    ("score", "head_beta"),
    ("score", "head_ridge"),
    ("score", "temperature"),
    ("score", "calibrated"),
    ("score", "unknown_threshold"),
    ("score", "precision_curve"),
    ("score", "roll_up_thresholds"),
    ("rerank", "when"),
    ("rerank", "margin"),
    ("rerank", "weight"),
    ("rerank", "fitted_for"),
    ("unknown", "rate"),
    ("unknown", "threshold"),
    ("unknown", "fitted_for"),
}


def test_the_list_of_what_a_memory_decides():
    assert {(section, key) for section, keys in FROM_MEMORY.items() for key in keys} == MAY
    assert set(SETTINGS) > MAY


def test_whatever_is_not_listed_is_refused_key_by_key_with_file_and_name(starter, tmp_path):
    defaults = Settings().model_dump(mode="json")
    assert len(SETTINGS) > 45
    for section, key in SETTINGS:
        carried = {section: {key: defaults[section][key]}} if key is not None else {section: {}}
        memory = built_with(starter, tmp_path, carried)
        if (section, key) in MAY:
            assert carried_settings(memory) == carried
            continue
        name = section if key is None else f"{section}.{key}"
        for read in (carried_settings, stored_settings):
            with pytest.raises(SettingsError, match=rf"m/MEMORY\.json sets `{name}`, which is not for a memory"):
                read(memory)
    memory = built_with(starter, tmp_path, {})
    for section, key in SETTINGS:
        if key is not None:
            value = {key: defaults[section][key]}
            write_calibration(memory, **{"score": {}, section: value})
            if (section, key) in MAY:
                assert carried_settings(memory)[section] == value
            else:
                with pytest.raises(SettingsError, match=rf"m/calibration\.yaml sets `{section}\.{key}`, which"):
                    carried_settings(memory)


def test_info_tells_what_calibration_fitted_in_words(starter, tmp_path):
    curve = [[0.41, 0.91, 80], [0.62, 0.9639, 60]]
    memory = built_with(starter, tmp_path, {})
    score = {"head": "auto", "head_beta": None, "precision_curve": curve, "roll_up_thresholds": [0.7, 0.5]}
    write_calibration(memory, score=score)
    lines = dict(line.split(maxsplit=1) for line in call("info", "--memory", memory.directory)[1].splitlines())
    precisions = "0.9 from confidence 0.41 on, 0.95 from confidence 0.62 on, at most 0.963"
    assert lines["score.precision"] == f"calibrated: {precisions}"
    assert lines["score.roll_up"].startswith("calibrated: the category from confidence 0.7 on, else its group")
    assert lines["score.head"] == "auto"
    assert {"score.head_beta", "score.precision_curve", "score.roll_up_thresholds"}.isdisjoint(lines)
    full = json.loads(call("info", "--memory", memory.directory, "--json")[1])["settings"]["score"]
    assert full == score


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"score": [1]}, r"`score` must hold settings, not \[1\]"),
        ({"rerank": 5}, "`rerank` must hold settings, not 5"),
        ({"rerank": "sometimes"}, "setting `rerank.when` = 'sometimes'"),
        ({"rerank": {"margin": "wide"}}, "setting `rerank.margin` = 'wide'"),
        ({"rerank": {"weight": True}}, "setting `rerank.weight` = True: a number is needed"),
        ({"score": {"temperature": -1}}, "setting `score.temperature` = -1"),
        ({"score": {"image_name": 0.9}}, "they must sum to 1"),
        ({"score": {"center": True}}, "score.center no longer exists"),
        ({"notes": "mine"}, "sets `notes`, which is not for a memory"),
        ({"run": 5}, "sets `run`, which is not for a memory"),
        ({"images": {"\x1b[2J" * 999: 1}}, r"sets `images\.\\x1b\[2J"),
    ],
    ids=range(11),
)
def test_settings_of_the_wrong_kind_name_file_and_key(starter, tmp_path, settings, said):
    memory = built_with(starter, tmp_path, settings)
    with pytest.raises(SettingsError, match=said) as caught:
        carried_settings(memory)
    assert "m/MEMORY.json" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    memory = built_with(starter, tmp_path, {})
    write_calibration(memory, settings.get("score", {}), **{k: v for k, v in settings.items() if k != "score"})
    if isinstance(settings.get("rerank"), str):
        return
    with pytest.raises(SettingsError, match=said) as caught:
        carried_settings(memory)
    assert "m/calibration.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b"0.5", b"0.6"),
        lambda raw: raw[: raw.rindex(b"#")],
        lambda raw: raw[:-2],
        lambda raw: raw + b"rerank: {when: always}\n",
        lambda raw: b"# mine\n" + raw,
        lambda raw: raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:],
        lambda raw: b"",
        lambda raw: raw + b"#" * 3 * MOST_BYTES,
    ],
    ids=range(8),
)
def test_a_changed_calibration_is_refused_and_counts_by_config(memory_copy, tmp_path, change):
    write_calibration(memory_copy, {"temperature": 0.5})
    path = memory_copy.directory / CALIBRATION
    assert carried_settings(memory_copy) == {"score": {"temperature": 0.5}}
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SettingsError, match=r"calibration\.yaml is not as `recognizer calibrate` wrote it.*--config"):
        carried_settings(memory_copy)
    path.rename(tmp_path / "mine.yaml")
    assert carried_settings(memory_copy) == {}


def test_every_flipped_bit_of_a_calibration_is_seen(memory_copy):
    write_calibration(memory_copy, {"temperature": 0.5})
    path = memory_copy.directory / CALIBRATION
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 7):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(SettingsError, match="wrote it"):
            carried_settings(memory_copy)


def test_calibration_overrides_the_settings_of_the_memory_under_whichever_names_both_are_stored(starter, tmp_path):
    stored = {"score": {"name": 0.4, "region": 0.1, "exemplar_top": 5, "head_beta": 2}, "rerank": "always"}
    memory = Memory.build([Category("cat")], tmp_path / "m", encoder=starter, templates=["{}"], settings=stored)
    earlier = {"name": 0.1, "description": 0.2, "region": 0.3, "region_name": 0.4, "exemplar": 0.0, "center": False}
    write_calibration(memory, earlier)
    settings = load_settings(base=carried_settings(memory), overrides=["rerank.model=m"])
    assert settings.score.weights() == (0.1, 0.2, 0.3, 0.4)
    assert settings.score.head_beta == 2
    assert settings.rerank.when == "always"


def test_stored_centring_is_an_error_only_where_it_was_on(memory_copy):
    write_calibration(memory_copy, {"center": False})
    assert load_settings(base=carried_settings(memory_copy)) == load_settings()
    write_calibration(memory_copy, {"center": True})
    with pytest.raises(SettingsError, match=r"score\.center no longer exists"):
        carried_settings(memory_copy)


def test_calibration_of_another_memory_is_ignored_with_a_sentence(memory_copy):
    write_calibration(memory_copy, {"temperature": 0.5}, basis={"memory": "0" * 64, "categories": 3})
    warnings = []
    assert "score" not in carried_settings(memory_copy, warn=warnings.append)
    assert "other tables (3 categories; the memory now has" in warnings[0]
    assert read_calibration(memory_copy) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [("score: {}", "no section"), ("[1", "cannot read"), ("a: &a 1\nb: *a\n", "alias"), ("", "no section")],
)
def test_file_of_another_shape_is_refused(memory_copy, tmp_path, text, said):
    (tmp_path / "c.yaml").write_text(sealed(text))
    with pytest.raises(SettingsError, match=said):
        read_calibration(memory_copy, tmp_path / "c.yaml")


def test_reading_the_file_loads_no_scipy_and_no_matplotlib():
    code = (
        "import sys, recognizer.memory_settings; "
        "sys.exit(any(name in sys.modules for name in ('scipy.optimize', 'matplotlib', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
