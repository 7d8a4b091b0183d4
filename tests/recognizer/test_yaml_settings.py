from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from recognizer.yaml_settings import SettingsError, load_yaml_settings


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = Field(default=1, gt=0)
    names: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    quick: bool = False
    free: dict[str, int] | None = None
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
    base = {"one": {"size": 2, "mode": "exact", "names": ["base"]}}
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
        ("{other: {sise: 3}}", [], "unknown setting `other.sise`; known here: size, names, shares, quick, free, mode"),
        ("", ["size=3"], r"unknown setting `size`; known here: one, other, needed; did you mean `one.size`\?"),
        ("", ["one.sise=3"], r"free, mode; did you mean `one.size`\?"),
        ("{one: 1}", [], "setting `one` = 1: give its settings by name"),
        (
            "{one: {size: 2.5, quick: 3, mode: slow}}",
            [],
            "2.5: give a whole number; .*`one.quick` = 3: give true or false; .*'slow': give 'fast' or 'exact'",
        ),
        ("{two: 1}", [], "unknown setting `two`; known here: one, other, needed"),
        ("{one: {size: 0}}", [], "setting `one.size` = 0: give more than 0"),
        ("", ["one.names=a"], r"setting `one.names` = 'a': give a list, in brackets"),
        ("", ["=3"], "'=3' is not of the form section.key=value"),
        ("", ["one.size"], "'one.size' is not of the form section.key=value"),
        ("", ["one.size=["], "the value is not plain YAML: line 1"),
    ],
)
def test_a_bad_setting_is_named_with_what_is_valid(tmp_path, text, overrides, message):
    with pytest.raises(SettingsError, match=message):
        load(tmp_path, text, overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("one.size=true", "setting `one.size` = True: a number is needed, not true or false"),
        ("one.size=off", "setting `one.size` = False: give more than 0"),
        ("one.shares=[0.5, yes]", "setting `one.shares.1` = True: a number"),
        ("one.free={a: {b: 1}}", "setting `one.free.a`"),
        ("one.free={a: false}", "setting `one.free.a` = False: a number"),
        ("needed=true", "setting `needed` = True: a number"),
        ("one.quick=1.5", "setting `one.quick`"),
        ("one.size=" + "[" * 5000, "nested more than 20 levels"),
        ("one.size=" + "[" * 2_000_000, "larger than"),
        ("one" + ".one" * 5000 + "=1", "has more than 20 keys"),
        ("one.size=!!timestamp abc", "the tag"),
        ("one.size=" + "x" * 200_000, "give a whole number"),
        ("one." + "x" * 200_000 + "=1", "unknown setting"),
        ("one.\x1b[2J\n=1", "unknown setting"),
        ("\x1b" * 200_000, "section.key=value"),
        ("{" + ", ".join(f"k{n}: 1" for n in range(9)) + "}", "section.key=value"),
        (
            "one={" + ", ".join(f"k{n}: 1" for n in range(9)) + "}",
            "`one.k0`; known here: size, .* `one.k4`; and 4 more$",
        ),
    ],
    ids=range(17),
)
def test_hostile_settings_are_one_short_printable_sentence(override, message):
    with pytest.raises(SettingsError, match=message) as caught:
        load_yaml_settings(Model, None, [override])
    assert len(str(caught.value)) < 1500
    assert str(caught.value).isprintable()


def test_hostile_files_are_one_short_printable_sentence(tmp_path):
    for text in ("one: " + "[" * 5000, "one:\n  size: 1\n  size: 2\n", "a: &a 1\nb: *a\n", "x" * 2**20, "- \x1b"):
        with pytest.raises(SettingsError, match="cannot read the config") as caught:
            load(tmp_path, text)
        assert len(str(caught.value)) < 500
        assert str(caught.value).isprintable()


def test_true_and_false_are_switches(tmp_path):
    loaded = load(tmp_path, "one: {quick: true, size: 1, shares: [1, 0.5]}", ["one.quick=no"])
    assert loaded.one == Section(quick=False, size=1, shares=(1, 0.5))


def test_a_setting_without_default_is_required():
    with pytest.raises(SettingsError, match="setting `needed` is required"):
        load_yaml_settings(Strict)
