from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from recognizer.yaml_settings import SettingsError, load_yaml_settings


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = Field(default=1, gt=0)
    names: tuple[str, ...] = ()
    mode: Literal["fast", "exact"] = "fast"


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")
    one: Section = Section()
    other: Section | None = None
    needed: int = 0


class Strict(BaseModel):
    needed: int


def load(tmp_path, text, overrides=(), base=None):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    return load_yaml_settings(Model, config, overrides, base=base)


def test_later_sources_win_key_by_key(tmp_path):
    base = {"one": {"size": 2, "mode": "exact", "names": ["base"]}, "unknown section": {"a": 1}}
    loaded = load(tmp_path, "one: {size: 3, names: [file]}", ["one.names=[a, b]"], base)
    assert loaded.one == Section(size=3, names=("a", "b"), mode="exact")
    assert load(tmp_path, "").one == Section()


def test_overrides_are_yaml_and_may_be_nested(tmp_path):
    assert load(tmp_path, "", ["one={size: 4, mode: exact}", "one.size=5"]).one == Section(size=5, mode="exact")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("[1]", [], "c.yaml must contain sections such as `one:` and `other:`, not a list"),
        ("a: [", [], "cannot read the config"),
        (
            "{one: {sise: 3}}",
            [],
            r"bad settings \(config .*c.yaml\): unknown setting `one.sise`; known here: size",
        ),
        ("{other: {sise: 3}}", [], "unknown setting `other.sise`; known here: size, names, mode"),
        ("{two: 1}", [], "unknown setting `two`; known here: one, other, needed"),
        ("{one: {size: 0}}", [], "setting `one.size` = 0: Input should be greater than 0"),
        ("", ["=3"], "'=3' is not of the form section.key=value"),
        ("", ["one.size"], "'one.size' is not of the form section.key=value"),
        ("", ["one.size=["], "the value is not YAML"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_valid(tmp_path, text, overrides, message):
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, text, overrides)


def test_a_setting_without_default_is_required():
    with pytest.raises(SettingsError, match="setting `needed` is required"):
        load_yaml_settings(Strict)
