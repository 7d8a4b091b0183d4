from pathlib import Path

import pytest

from recognizer.settings import TERMS, ScoreSettings, SettingsError, load_settings

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
        ("score.image_name=0.9", "they must sum to 1"),
        ("score.name=0.9", "they must sum to 1"),
        ("score.center=true", "no longer exists"),
        ("run.top_k=0", "give at least 1"),
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
    score = ScoreSettings(image_name=0.2, image_description=0.6, region_description=0.1, region_name=0.1)
    assert score.only("image_name", "image_description").weights() == pytest.approx((0.25, 0.75, 0, 0))
    assert (score.head, score.only("image_name").head) == ("auto", "off")


def test_weights_stand_in_the_order_of_the_terms():
    score = ScoreSettings().with_weights([0.1, 0.2, 0.3, 0.4])
    assert TERMS == ("image_name", "image_description", "region_description", "region_name")
    assert score.weights() == (0.1, 0.2, 0.3, 0.4)
    assert (score.image_name, score.image_description, score.region_description) == (0.1, 0.2, 0.3)


def test_the_earlier_weight_of_exemplars_goes_to_the_other_terms():
    earlier = dict.fromkeys(TERMS, 0.24) | {"exemplar": 0.04, "exemplar_top": 3}
    assert load_settings(base={"score": earlier}).score == ScoreSettings().with_weights([0.25] * 4)
    assert load_settings(base={"score": {"exemplar": 0.0}}) == load_settings()
    for bad in ({"exemplar": 0.1}, dict.fromkeys(TERMS, 0.0) | {"exemplar": 1.0}, {"exemplar": "much"}):
        with pytest.raises(SettingsError, match=r"score\.exemplar = .* no longer exists: .*score\.head"):
            load_settings(base={"score": bad})


def test_head_may_be_a_bare_off_of_yaml():
    assert load_settings(overrides=["score.head=off"]).score.head == "off"
    assert load_settings(overrides=["score.head=proker", "score.head_beta=2"]).score.head_beta == 2


def test_earlier_names_are_read_from_every_source_with_one_note(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("score: {description: 0.1, region: 0.2, center: false}\n")
    base = {"score": {"name": 0.3, "description": 0.4, "region": 0.2, "region_name": 0.1, "center": False}}
    notes = []
    settings = load_settings(config, ["score.image_name=0.5", "score.region_name=0.2"], base=base, warn=notes.append)
    assert settings.score.weights() == (0.5, 0.1, 0.2, 0.2)
    assert len(notes) == 1
    assert "score.description is now score.image_description" in notes[0]
    assert "score.name" not in notes[0]  # the memory's own settings are nothing that a user could rewrite
    assert load_settings(base=base, warn=notes.append).score.weights() == (0.3, 0.4, 0.2, 0.1)
    assert len(notes) == 1


def test_a_calibration_from_before_regions_could_be_too_large_keeps_regions_of_any_size(tmp_path):
    fitted = {"calibrated": True, "temperature": 0.1, "region_threshold": 0.5}
    assert load_settings(base={"score": fitted}).score.largest_region == 1
    assert load_settings(base={"score": fitted | {"largest_region": 0.4}}).score.largest_region == 0.4
    assert load_settings(overrides=["score.calibrated=true"]).score.largest_region == 0.6


def test_one_setting_under_two_names_is_refused(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("score: {name: 0.2, image_name: 0.2}\n")
    with pytest.raises(SettingsError, match=r"score\.name is the earlier name of score\.image_name"):
        load_settings(config)


def test_a_memory_asks_for_reranking_only_by_a_model_that_the_user_names(tmp_path):
    base = {"rerank": {"when": "auto", "margin": 0.4}}
    notes = []
    settings = load_settings(base=base, warn=notes.append)
    assert (settings.rerank.when, settings.rerank.margin) == ("off", 0.4)
    assert notes == [
        "the memory asks for reranking (auto), but no multimodal LLM is named, so retrieval's order stays; "
        "give --rerank-model, now or later to `recognizer rerank`"
    ]
    config = tmp_path / "run.yaml"
    config.write_text("rerank: {model: m}")
    for named in ({"config": config}, {"overrides": ["rerank.model=m"]}):
        assert load_settings(base=base, warn=notes.append, **named).rerank.when == "auto"
    for when in ("off", "always"):
        assert load_settings(None, [f"rerank.when={when}"], base=base, warn=notes.append).rerank.when == when
    assert len(notes) == 1
    assert base == {"rerank": {"when": "auto", "margin": 0.4}}


@pytest.mark.parametrize("key", ["score.temperature", "rerank.weight", "rerank.timeout_s"])
@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_numbers_are_finite(key, value):
    with pytest.raises(SettingsError, match="finite"):
        load_settings(overrides=[f"{key}={value}"])


@pytest.mark.parametrize("key", ["run.top_k", "score.region_threshold", "rerank.rotations", "images.max_pixels"])
def test_true_is_no_number(key):
    with pytest.raises(SettingsError, match="a number is needed, not true or false"):
        load_settings(overrides=[f"{key}=true"])


@pytest.mark.parametrize(("text", "expected"), [("auto", "auto"), ("3", 3), ("null", None)])
def test_rotations_are_a_number_or_auto(text, expected):
    assert load_settings(overrides=[f"rerank.rotations={text}"]).rerank.rotations == expected


@pytest.mark.parametrize("text", ["0", "2.5", "fast", "[]"])
def test_other_rotations_are_refused_in_one_sentence(text):
    with pytest.raises(
        SettingsError, match=r"`rerank\.rotations` = .*give a whole number of at least 1, auto or null$"
    ):
        load_settings(overrides=[f"rerank.rotations={text}"])


def test_the_shipped_config_is_the_defaults():
    assert load_settings(CONFIG) == load_settings()


def test_a_threshold_without_effect_is_refused_with_what_to_do():
    with pytest.raises(SettingsError, match=r"unknown_threshold 0\.5 has no effect .*--min-confidence"):
        load_settings(overrides=["score.unknown_threshold=0.5"])
    settings = load_settings(overrides=["score.unknown_threshold=0.5", "score.calibrated=true"])
    assert settings.score.unknown_threshold == 0.5
