import csv
import json
import shutil

import pytest

from memory import Category, read_labels
from recognizer.hierarchy.ranks import group_summary, ranks_above, ranks_of_groups
from tests.recognizer.commands import call

TAXONOMY = """name,Class,order,family,genus
tabby cat,Mammalia,Carnivora,Felidae,Felis
lynx,Mammalia,,Felidae,Lynx
bison,Mammalia,Artiodactyla,Bovidae,Bovidae
carp,Actinopterygii,,Cyprinidae,
"""


@pytest.fixture
def taxonomy(tmp_path):
    (tmp_path / "taxonomy.csv").write_text(TAXONOMY)
    return tmp_path / "taxonomy.csv"


def test_ranks_are_those_of_the_columns_whatever_a_row_lacks(taxonomy):
    categories = read_labels(taxonomy)
    ranks = ranks_of_groups(categories)
    assert ranks["Mammalia"] == ranks["Actinopterygii"] == "class"
    assert ranks["Mammalia > Carnivora > Felidae"] == "family"
    assert ranks["Actinopterygii > Cyprinidae"] == "family"  # without an order
    above = {category.name: ranks_above(category, ranks) for category in categories}
    assert above["lynx"] == ("class", "order", "family", "genus")  # the order is from another row
    assert above["bison"] == ("class", "order", "family", "genus")  # two ranks of one name
    assert above["carp"] == ("class", "family")
    summary = {"groups": 10, "depth": 4, "ranks": ["class", "order", "family", "genus"], "categories": 4}
    assert group_summary(list(categories)) == summary


def test_groups_without_columns_have_no_rank():
    owl = Category("owl", "animal > bird", metadata={"colour": "bird"})
    assert ranks_of_groups([owl]) == {}
    assert ranks_above(owl, {}) == ranks_above(owl, {"plant": "kingdom"}) == ()
    assert group_summary([owl, Category("cup")]) == {"groups": 2, "depth": 2, "ranks": [], "categories": 1}


@pytest.mark.usefixtures("encoders_loaded_once")
def test_info_shows_groups_and_a_run_the_rank_of_a_label(taxonomy, photos, tmp_path):
    memory = ("--memory", tmp_path / "memory", "--precision", "fp32")
    call("build", taxonomy, *memory)
    shown = call("info", *memory[:2])[1]
    assert "10 groups on 4 levels, ranks class > order > family > genus, above 4 categories" in shown
    assert json.loads(call("info", *memory[:2], "--json")[1])["groups"]["depth"] == 4
    (tmp_path / "photos").mkdir()
    shutil.copy(photos / "cat.jpg", tmp_path / "photos")
    run = ("run", tmp_path / "photos", *memory, "--top-k", "4")
    call(*run, "--output", tmp_path / "lowest.jsonl", "--roll-up", "0")
    lowest = json.loads((tmp_path / "lowest.jsonl").read_text())
    assert lowest["source"] == "category"
    assert "label_rank" not in lowest
    assert lowest["candidates"][0]["ranks"] == ["class", "order", "family", "genus"]
    order = lowest["group_confidence"]["Mammalia > Carnivora"]
    assert order > lowest["group_confidence"]["Mammalia > Carnivora > Felidae > Felis"]
    for suffix in ("jsonl", "csv"):
        call(*run, "--output", tmp_path / f"r.{suffix}", "--roll-up", f"{order - 1e-6:.6f}", "--overwrite")
    rolled = json.loads((tmp_path / "r.jsonl").read_text())
    assert (rolled["label_rank"], rolled["source"]) == ("family", "rolled up")  # all cats: as sure as their order
    with (tmp_path / "r.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert {line["label_rank"] for line in csv.DictReader(stream)} == {"family"}
    call("run", tmp_path / "photos", *memory, "--output", tmp_path / "plain.jsonl")
    assert "ranks" not in (tmp_path / "plain.jsonl").read_text()
