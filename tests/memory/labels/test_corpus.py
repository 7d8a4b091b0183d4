"""Small files as the tools of the field write them, in `tests/corpus/labels`, with their right values."""

from pathlib import Path

import pytest

from memory import LabelError, read_labels

CORPUS = Path(__file__).parents[2] / "corpus" / "labels"
WHERE_READ = {
    "data_list.yaml": ("YOLO names", ["red fox", "grey heron", "badger"]),
    "data_map.yaml": ("YOLO names", ["red fox", "grey heron", "badger"]),
    "index_to_name.json": ("names by index (index_to_name)", ["red fox", "grey heron"]),
    "imagenet_class_index.json": ("Keras class index", ["red_fox", "crane"]),
    "names_obj.json": ("list under 'names'", ["red fox", "grey heron"]),
    "config.json": ("Hugging Face id2label", ["red fox", "grey heron"]),
    "autodistill_ontology.json": ("autodistill ontology (caption: class)", ["fox", "heron"]),
    "lvis_list.json": ("LVIS categories", ["baseball_base", "aerosol_can"]),
    "comment.txt": ("names, one per line", ["red fox", "grey heron"]),
    "double.txt": ("names, one per line", ["missile", "sunglasses", "red fox"]),
    "camel.txt": ("names, one per line", ["AnnualCrop", "HerbaceousVegetation", "PermanentCrop", "SeaLake"]),
    "one_col_quoted.csv": ("CSV", ["red fox", "heron, grey"]),
    "bom_semicolon.csv": ("CSV", ["red fox", "grey heron"]),
}


@pytest.mark.parametrize("file", WHERE_READ)
def test_the_names_and_nothing_else_are_categories(file):
    labels = read_labels(CORPUS / file)
    assert (labels.format, [category.name for category in labels]) == WHERE_READ[file]


def test_the_summary_says_count_names_and_format():
    assert str(read_labels(CORPUS / "camel.txt")) == (
        "4 categories, such as 'AnnualCrop', 'HerbaceousVegetation', 'PermanentCrop'; format: names, one per line"
    )


def test_captions_are_sentences_about_their_class():
    fox, heron = read_labels(CORPUS / "autodistill_ontology.json")
    assert [(d.text, d.kind) for d in fox.descriptions] == [
        ("a photo of a fox", "sentence"),
        ("a photo of a red fox in snow", "sentence"),
    ]
    assert [d.text for d in heron.descriptions] == ["a heron"]


def test_word_net_ids_are_metadata():
    assert read_labels(CORPUS / "imagenet_class_index.json")[0].metadata == {"wnid": "n02119022"}


def test_lvis_synonyms_are_aliases_and_its_definition_a_description():
    base = read_labels(CORPUS / "lvis_list.json")[0]
    assert (base.aliases, base.descriptions[0].text) == (("home_plate",), "a place to touch")


def test_comments_and_repeated_names_are_said():
    assert read_labels(CORPUS / "comment.txt").notes == ("1 comment line left out, the first on line 1",)
    (note,) = read_labels(CORPUS / "double.txt").notes
    assert note == "1 repeated name, merged into one category each: 'missile' (line 1 and line 3)"


def test_a_header_is_taken_only_where_the_user_says_so():
    path = CORPUS / "header_species.txt"
    with pytest.raises(LabelError, match=r"line 1: 'species' looks like a header\. Say with --header yes"):
        read_labels(path)
    names = ["red fox", "European badger", "grey heron"]
    assert [category.name for category in read_labels(path, header=True)] == names
    assert [category.name for category in read_labels(path, header=False)] == ["species", *names]


def test_names_with_commas_are_aliases_where_the_user_says_so():
    path = CORPUS / "imagenet_commas.txt"
    shark = read_labels(path, aliases="comma")[0]
    assert shark.name == "great white shark"
    assert shark.aliases == ("white shark", "man-eater", "Carcharodon carcharias")
    (note,) = read_labels(path).notes
    assert "--aliases comma" in note


def test_a_taxonomy_needs_the_column_of_names_and_is_the_group():
    path = CORPUS / "inat_taxa.csv"
    with pytest.raises(LabelError, match=r"'scientificName', 'taxonRank', 'commonName'.*--name-column scientificName"):
        read_labels(path)
    fox, heron = read_labels(path, name_column="commonName")
    assert (fox.name, fox.group) == ("red fox", "Animalia > Chordata > Mammalia > Carnivora > Canidae > Vulpes")
    assert (heron.name, heron.metadata["scientificName"]) == ("great blue heron", "Ardea herodias")
    assert [c.name for c in read_labels(path, name_column="SCIENTIFICNAME")] == ["Vulpes vulpes", "Ardea herodias"]


def test_templates_are_no_label_file():
    with pytest.raises(LabelError, match="looks like a table without a header"):
        read_labels(CORPUS / "templates_lambda.txt")
    with pytest.raises(LabelError, match=r"the names are templates, such as 'a photo of a \{c\}\.'\. Give a file"):
        read_labels(CORPUS / "templates.json")
    assert len(read_labels(CORPUS / "templates.json", format="json")) == 2
