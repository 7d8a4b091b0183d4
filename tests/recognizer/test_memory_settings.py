import shutil
import subprocess
import sys

import pytest
import yaml

from memory import Category, Memory
from recognizer.memory_settings import SETTINGS_FILE, carried_settings, memory_identity, read_calibration
from recognizer.settings import load_settings
from recognizer.yaml_settings import SettingsError


@pytest.fixture
def memory_copy(demo_memory, tmp_path):
    return Memory.open(shutil.copytree(demo_memory, tmp_path / "memory"))


def write_calibration(memory, score, **basis):
    content = {"calibration": memory_identity(memory) | basis, "score": score}
    (memory.directory / SETTINGS_FILE).write_text(yaml.safe_dump(content))


def test_calibration_overrides_what_the_memory_carries_under_whichever_names_both_are_stored(starter, tmp_path):
    carried = {"score": {"name": 0.4, "region": 0.1, "exemplar_top": 5}, "rerank": "always"}
    Memory.build([Category("cat")], tmp_path / "m", encoder=starter, templates=["{}"], settings=carried)
    memory = Memory.open(tmp_path / "m")
    earlier = {"name": 0.1, "description": 0.2, "region": 0.3, "region_name": 0.4, "exemplar": 0.0, "center": False}
    write_calibration(memory, earlier)
    settings = load_settings(base=carried_settings(memory))
    assert settings.score.weights() == (0.1, 0.2, 0.3, 0.4, 0)
    assert settings.score.exemplar_top == 5
    assert settings.rerank.when == "always"


def test_stored_centring_is_an_error_only_where_it_was_on(memory_copy):
    write_calibration(memory_copy, {"center": False})
    assert load_settings(base=carried_settings(memory_copy)) == load_settings()
    write_calibration(memory_copy, {"center": True})
    with pytest.raises(SettingsError, match=r"score\.center no longer exists"):
        carried_settings(memory_copy)


def test_calibration_of_another_memory_is_ignored_with_a_sentence(memory_copy):
    write_calibration(memory_copy, {"temperature": 0.5}, categories=3)
    warnings = []
    assert "score" not in carried_settings(memory_copy, warn=warnings.append)
    assert "a memory of 3 categories" in warnings[0]
    assert read_calibration(memory_copy) is None


@pytest.mark.parametrize(("text", "said"), [("score: {}", "no section"), ("[1", "cannot read"), ("", "no section")])
def test_file_of_another_shape_is_refused(memory_copy, tmp_path, text, said):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_calibration(memory_copy, tmp_path / "c.yaml")


def test_reading_the_file_loads_no_scipy_and_no_matplotlib():
    code = (
        "import sys, recognizer.memory_settings; "
        "sys.exit(any(name in sys.modules for name in ('scipy.optimize', 'matplotlib', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
