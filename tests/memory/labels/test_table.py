import pytest

from memory import LabelError, read_labels


def read(tmp_path, text, **options):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return read_labels(path, **options)


def test_aliases_are_a_column_with_semicolons(tmp_path):
    text = "name,Aliases,synonyms\nshark,white shark; man-eater,\nfox,,red fox\n"
    shark, fox = read(tmp_path, "name,Aliases\nshark,white shark; man-eater\nfox,\n")
    assert (shark.aliases, fox.aliases, shark.metadata) == (("white shark", "man-eater"), (), {})
    assert read(tmp_path, text.replace(",synonyms", ",x"))[1].metadata == {"x": "red fox"}
    (row,) = read(tmp_path, 'name,aliases\nshark,"white shark, man-eater"\n', aliases="comma")
    assert row.aliases == ("white shark", "man-eater")


def test_the_name_column_may_have_any_title_and_the_other_name_is_metadata(tmp_path):
    (fox,) = read(tmp_path, "name;Title;group\nV. vulpes;fox;canid\n", name_column="title")
    assert (fox.name, fox.group, fox.metadata) == ("fox", "canid", {"name": "V. vulpes"})
    with pytest.raises(LabelError, match="there is no column 'x'; the columns are 'name', 'group'"):
        read(tmp_path, "name,group\ncat,\n", name_column="x")


def test_a_title_in_small_letters_wins_only_where_the_exact_one_is_missing(tmp_path):
    assert read(tmp_path, "Label,label\na,b\n", name_column="Label")[0].name == "a"
    assert read(tmp_path, "Label,label\na,b\n", name_column="label")[0].name == "b"


def test_empty_columns_at_the_end_are_left_out(tmp_path):
    assert read(tmp_path, "name,group,,\ncat,pet,,\ndog,pet\n")[1].group == "pet"
    with pytest.raises(LabelError, match="line 2: the row has 3 cells, the header 2"):
        read(tmp_path, "name,group,\ncat,pet,x\n")


def test_comments_before_the_header_are_left_out(tmp_path):
    assert [c.name for c in read(tmp_path, "# made by hand\nname,group\ncat,pet\n")] == ["cat"]


def test_a_taxonomy_is_the_group_unless_there_is_one(tmp_path):
    (fox,) = read(tmp_path, "scientificName,order,family,genus\nVulpes vulpes,Carnivora,Canidae,\n")
    assert (fox.name, fox.group) == ("Vulpes vulpes", "Carnivora > Canidae")
    (fox,) = read(tmp_path, "name,family,genus,group\nfox,Canidae,Vulpes,wild\n")
    assert fox.group == "wild"


def test_open_images_with_a_header(tmp_path):
    labels = read(tmp_path, "LabelName,DisplayName\n/m/011k07,Tortoise\n")
    assert (labels[0].name, labels[0].metadata) == ("Tortoise", {"LabelName": "/m/011k07"})
    assert labels.format == "CSV of Open Images"


def test_records_and_categories_take_the_name_column_too(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text('[{"name": "V. vulpes", "common_name": "fox", "aliases": ["red fox"]}]')
    (fox,) = read_labels(path, name_column="common_name")
    assert (fox.name, fox.aliases, fox.metadata) == ("fox", ("red fox",), {"name": "V. vulpes"})
    path.write_text('{"categories": [{"name": "V. vulpes", "common_name": "fox", "supercategory": "canid"}]}')
    (fox,) = read_labels(path, name_column="common_name")
    assert (fox.name, fox.group, fox.metadata) == ("fox", "canid", {"name": "V. vulpes"})


def test_the_root_category_of_roboflow_is_left_out(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(
        '{"categories": [{"id": 0, "name": "animals", "supercategory": "none"},'
        '{"id": 1, "name": "fox", "supercategory": "animals"}, {"id": 2, "name": "emu", "supercategory": "animals"}]}'
    )
    labels = read_labels(path)
    assert [category.name for category in labels] == ["fox", "emu"]
    assert "'animals' of the whole data set is left out" in labels.notes[0]
