from pathlib import Path

import pytest

from recognizer.settings import ScoreSettings, SettingsError, load_settings

CONFIG = Path(__file__).parents[2] / "configs" / "run.yaml"


def test_defaults_hold_their_own_rules():
    assert sum(load_settings().score.weights()) == pytest.approx(1)


def test_later_sources_win(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("run: {top_k: 7, batch_size: 4}\n")
    settings = load_settings(config, ["run.top_k=9"], base={"run": {"workers": 3, "batch_size": 2}})
    assert (settings.run.top_k, settings.run.batch_size, settings.run.workers) == (9, 4, 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.topk=3", r"unknown setting `run.topk`; known here: .*top_k"),
        ("score.name=0.9", "they must sum to 1"),
        ("run.top_k=0", "greater than or equal to 1"),
        ("top_k", "section.key=value"),
        ("scores.name=1", "unknown setting `scores`"),
    ],
)
def test_bad_override_is_named(override, message):
    with pytest.raises(SettingsError, match=message):
        load_settings(overrides=[override])


def test_bad_config_names_its_file(tmp_path):
    config = tmp_path / "bad.yaml"
    config.write_text("score: {weight: 1}\n")
    with pytest.raises(SettingsError, match=r"bad\.yaml.*unknown setting `score\.weight`"):
        load_settings(config)
    with pytest.raises(SettingsError, match=r"cannot read the config"):
        load_settings(tmp_path / "missing.yaml")


def test_only_keeps_the_proportions_of_the_terms_left():
    kept = ScoreSettings(name=0.2, description=0.6, region=0.1, region_name=0.1).only("name", "description")
    assert kept.weights() == pytest.approx((0.25, 0.75, 0, 0, 0))


def test_the_shipped_config_is_the_defaults():
    assert load_settings(CONFIG) == load_settings()
