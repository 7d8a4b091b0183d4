"""Trees in label files: paths, columns of ranks, parents; and what is wrong with them."""

import json

import pytest

from memory import LabelError, read_labels
from memory.labels.lineage import MOST_LEVELS


def read(tmp_path, text, **options):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return read_labels(path, **options)


def groups(labels):
    return {category.name: category.group for category in labels}


def test_parents_are_followed_to_the_top_and_stay_categories(tmp_path):
    labels = read(tmp_path, "name,parent\nowl,bird\nbird,animal\nanimal,\ncat,animal\n")
    assert groups(labels) == {"owl": "animal > bird", "bird": "animal", "animal": "", "cat": "animal"}
    assert labels.notes == ("2 rows that others have as parent, categories as well: 'bird'; 'animal'",)
    assert labels[0].metadata == {}


def test_parents_without_any_row_are_plain_groups(tmp_path):
    labels = read(tmp_path, "name,parent\nowl,bird\ncat,pet\n")
    assert (groups(labels), labels.notes) == ({"owl": "bird", "cat": "pet"}, ())


def test_a_parent_that_nobody_defines_beside_others_is_named(tmp_path):
    labels = read(tmp_path, "name,parent\nowl,brid\nbird,animal\nanimal,\n")
    assert groups(labels)["owl"] == "brid"
    assert "1 parent without a row, read as groups at the top: 'brid' (of 'owl', line 2)" in labels.notes[1]


def test_a_parent_need_be_written_in_one_row_of_a_name_only(tmp_path):
    labels = read(tmp_path, "name,parent,description\nowl,bird,round head\nowl,,big eyes\n")
    assert [(c.name, c.group, len(c.descriptions)) for c in labels] == [("owl", "bird", 2)]


def test_beside_a_group_the_parent_is_metadata(tmp_path):
    (owl,) = read(tmp_path, "name,group,parent\nowl,birds,7\n")
    assert (owl.group, owl.metadata) == ("birds", {"parent": "7"})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,b\nb,c\nc,a\n", "line 2: parents form a circle: 'b' has the parent 'c' has the parent 'a' has the parent"),
        ("a,a\n", "line 2: parents form a circle: 'a' has the parent 'a'"),
        ("owl,bird\ncat,pet\nowl,pet\n", r"the name 'owl' has two parents: 'bird' \(line 2\) and 'pet' \(line 4\)"),
        ("".join(f"n{k},n{k - 1}\n" for k in range(1, MOST_LEVELS + 3)), f"more than {MOST_LEVELS} levels"),
        ("".join(f"n{k - 1},n{k}\n" for k in range(1, MOST_LEVELS + 3)), f"more than {MOST_LEVELS} levels"),
    ],
    ids=["circle", "itself", "two", "long", "long upwards"],
)
def test_circles_two_parents_and_endless_chains_are_refused_by_name(tmp_path, rows, said):
    with pytest.raises(LabelError, match=said):
        read(tmp_path, f"name,parent\n{rows}")


def test_equal_names_may_have_two_parents_unless_others_stand_below_them(tmp_path):
    text = "name,parent\ncrane,bird\ncrane,machine\n"
    assert [c.group for c in read(tmp_path, text, key="name,group")] == ["bird", "machine"]
    with pytest.raises(LabelError, match="'crane' has two parents"):
        read(tmp_path, f"{text}whooping crane,crane\n", key="name,group")


def test_records_have_parents_too(tmp_path):
    path = tmp_path / "labels.jsonl"
    rows = [{"name": "owl", "parent": "bird"}, {"name": "bird", "parent": None}, {"name": "x", "parent": 7}]
    path.write_text("\n".join(map(json.dumps, rows)))
    labels = read_labels(path)
    assert groups(labels) == {"owl": "bird", "bird": "", "x": ""}
    assert [category.metadata for category in labels] == [{}, {}, {"parent": "7"}]


def test_ranks_in_any_case_are_the_path(tmp_path):
    text = "Name,Species,GENUS,family,Order\nred fox,Vulpes vulpes,Vulpes,Canidae,Carnivora\n"
    labels = read(tmp_path, text)
    assert labels[0].group == "Carnivora > Canidae > Vulpes > Vulpes vulpes"
    assert labels[0].metadata["GENUS"] == "Vulpes"
    same = read(tmp_path, "species,genus,family\nVulpes vulpes,Vulpes,Canidae\n", name_column="species")
    assert same[0].path == ("Canidae", "Vulpes", "Vulpes vulpes")


def test_an_empty_rank_is_filled_from_another_row_or_left_out(tmp_path):
    text = (
        "name,class,order,family,genus,species\nfox,Mammalia,Carnivora,Canidae,Vulpes,\n"
        "arctic fox,,,,Vulpes,\nwolf,Mammalia,,Canidae,Canis,\nowl,Aves,,Strigidae,,\nthing,,,,,\n"
    )
    labels = read(tmp_path, text)
    assert groups(labels) == {
        "fox": "Mammalia > Carnivora > Canidae > Vulpes",
        "arctic fox": "Mammalia > Carnivora > Canidae > Vulpes",
        "wolf": "Mammalia > Carnivora > Canidae > Canis",
        "owl": "Aves > Strigidae",
        "thing": "",
    }
    assert labels.notes == (
        "2 rows with an empty rank, filled from other rows: 'arctic fox' (line 3); 'wolf' (line 4)",
        "1 row with an empty rank between others, left out: 'owl' (line 5)",
    )


def test_empty_levels_of_a_path_are_left_out_and_said(tmp_path):
    labels = read(tmp_path, "name,group\nowl,animal > > bird\ncat,animal  >  mammal\nbox,> 100\n")
    assert groups(labels) == {"owl": "animal > bird", "cat": "animal > mammal", "box": "> 100"}
    assert labels.notes == (
        "1 group with empty levels, which are left out: 'animal > > bird' (line 2), read as 'animal > bird'",
    )


def test_a_group_in_two_places_is_two_groups_and_both_parents_are_named(tmp_path):
    labels = read(tmp_path, "name,group\nowl,animal > bird\nhen,farm > bird\nemu,bird\ncat,animal\n")
    assert labels.notes == (
        "1 name of groups in two places, which are two groups: 'bird' under 'animal' (line 2) and 'farm' (line 3)",
    )
    assert len(labels) == 4
    labels = read(tmp_path, "name,family,genus\nfox,Canidae,Vulpes\nother fox,Felidae,Vulpes\n")
    assert "'Vulpes' under 'Canidae' (line 2) and 'Felidae' (line 3)" in labels.notes[0]
