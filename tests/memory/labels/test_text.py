import pytest

from memory import LabelError, read_labels

UUIDS = [f"990ae9dd-7a59-4344-afcb-1b7b2136800{digit}" for digit in range(3)]
SPECIES_NET = (
    f"{UUIDS[0]};mammalia;carnivora;canidae;vulpes;vulpes;red fox\n"
    f"{UUIDS[1]};aves;;;;;bird\n"
    f"{UUIDS[2]};aves;pelecaniformes;ardeidae;ardea;cinerea;\n"
)
READ = [
    ("n02119022 red fox, Vulpes vulpes\nn02012849\tcrane\n", "ImageNet synsets", ["red fox, Vulpes vulpes", "crane"]),
    ('/m/011k07,Tortoise\n/m/0pc9,"Horn, long"\n', "Open Images classes", ["Tortoise", "Horn, long"]),
    ("1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n", "CUB classes",
     ["001.Black_footed_Albatross", "002.Laysan_Albatross"]),
    ("0 cat\n1 dog\n2 sea lion\n", "numbered names", ["cat", "dog", "sea lion"]),
    (SPECIES_NET, "SpeciesNet taxonomy", ["red fox", "bird", "ardea cinerea"]),
    # Names that only look like entries of such lists.
    ("1 of hearts\n", "names, one per line", ["1 of hearts"]),
    ("1 euro\n2 euro\n3 euro\n", "names, one per line", ["1 euro", "2 euro", "3 euro"]),
    ("1 euro\n2 pounds\n5 francs\n", "names, one per line", ["1 euro", "2 pounds", "5 francs"]),
    ("n02119022 red fox\nbadger\n", "names, one per line", ["n02119022 red fox", "badger"]),
    ("bass, the fish\nbass, the guitar\n", "names, one per line", ["bass, the fish", "bass, the guitar"]),
    ("#1 pencil\n# comment\n#\ncat\n", "names, one per line", ["#1 pencil", "cat"]),
]  # fmt: skip


def read(tmp_path, text, **options):
    path = tmp_path / "labels.txt"
    path.write_text(text)
    return read_labels(path, **options)


@pytest.mark.parametrize(("text", "format", "names"), READ)
def test_lists_with_an_id_on_each_line_are_recognised(tmp_path, text, format, names):
    labels = read(tmp_path, text)
    assert (labels.format, [category.name for category in labels]) == (format, names)
    if format != "names, one per line":
        plain = [line.strip() for line in text.splitlines()]
        assert [category.name for category in read(tmp_path, text, format="text")] == plain


def test_ids_are_metadata_and_a_lineage_is_the_group(tmp_path):
    fox, bird, heron = read(tmp_path, SPECIES_NET)
    assert (fox.group, bird.group) == ("mammalia;carnivora;canidae;vulpes", "aves")
    assert heron.metadata == {"id": UUIDS[2], "species": "cinerea"}
    assert read(tmp_path, "n02119022 fox\n")[0].metadata == {"wnid": "n02119022"}
    assert read(tmp_path, "/m/011k07,Tortoise\n")[0].metadata == {"mid": "/m/011k07"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\ncat\n", "line 1: 'name' looks like a header"),
        ("# all\nClass_Name\ncat\n", "line 2: 'Class_Name' looks like a header"),
        ("species\n", "looks like a header"),
        ("n02119022\nn02012849\n", "ids without names"),
        ("/m/011k07\n", "ids without names"),
        ("images/a.jpg\nimages/b.PNG\n", "paths of images"),
        ("train: images/train\nnc: 3\n", "look like settings"),
        ("fox\tVulpes\nheron\tArdea\n", "table without a header: tabs .*--format tsv --header no"),
        ("fox;Vulpes\nheron;Ardea\n", "semicolons .*--format csv --header no"),
        ("fox,Vulpes\nheron,Ardea\n", "commas .*--format csv --header no"),
        ("label,group\ncat,pet\n", "no 'name' column.*--name-column label"),
        ("# a\n#\n", "no category"),
    ],
)
def test_what_looks_like_no_list_of_names_is_refused(tmp_path, text, message):
    with pytest.raises(LabelError, match=message):
        read(tmp_path, text)


def test_the_remedies_of_refused_files_work(tmp_path):
    names = [category.name for category in read(tmp_path, "fox;Vulpes\nheron;Ardea\n", format="csv", header=False)]
    assert names == ["fox", "heron"]
    assert read(tmp_path, "fox\tVulpes\n", format="tsv", header=False)[0].metadata == {"2": "Vulpes"}
    assert [c.name for c in read(tmp_path, "a: b\nc: d\n", format="text")] == ["a: b", "c: d"]
    assert [c.name for c in read(tmp_path, "label,group\ncat,pet\n", name_column="label")] == ["cat"]
    assert [c.name for c in read(tmp_path, "name\ncat\n", header=False)] == ["name", "cat"]
    assert [c.name for c in read(tmp_path, "weird\ncat\n", header=True)] == ["cat"]
