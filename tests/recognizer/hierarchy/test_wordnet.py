from memory import Category
from recognizer.hierarchy.wordnet import with_hypernyms

NAMES = ["owl", "hen", "eagle", "bird", "dog", "red fox", "screwdriver", "hammer", "garden owl", "asdfgh"]


def test_levels_that_join_something_are_the_groups(starter):
    given = [*(Category(name) for name in NAMES), Category("bat", "sports")]
    categories, said = with_hypernyms(given, starter)
    paths = {category.name: category.path for category in categories}
    assert [category.name for category in categories] == [category.name for category in given]
    assert paths["bird"] == (paths["dog"][0], "any bird", "bird")  # one level joins birds and other animals
    assert paths["owl"][:2] == paths["bird"][:2]
    assert paths["owl"][-2:] == ("any owl", "owl")
    assert paths["garden owl"][:-1] == paths["owl"][:-1]  # a kind of the category that is its head
    assert paths["hen"][:-1] == paths["bird"][:-1]
    assert paths["dog"][:-1] == paths["red fox"][:-1] != ("animal",)
    assert paths["screwdriver"][:-1] == paths["hammer"][:-1]
    assert (paths["asdfgh"], paths["bat"]) == (("asdfgh",), ("sports", "bat"))
    for path in paths.values():
        for length in range(1, len(path)):
            below = {other for other in paths.values() if other[:length] == path[:length]}
            assert len(below) > 1 or path[0] == "sports"
            assert path[length - 1] != path[length]
    assert said == (
        "WordNet: hypernyms of 9 of 11 categories; 1 keep the group of the label file; not found: 1 name, such as "
        "'asdfgh'"
    )


def test_without_names_that_are_found_nothing_changes(starter):
    given = [Category("qwrtz"), Category("owl", "mine")]
    assert with_hypernyms(given, starter)[0] == given


def test_no_group_has_the_name_of_a_category(starter):
    given = [Category(name) for name in ("Whale", "killer whale", "sperm whale", "trout")]
    paths = {category.name: category.path for category in with_hypernyms(given, starter)[0]}
    assert "any Whale" in paths["killer whale"]
    assert paths["Whale"][-2:] == ("any Whale", "Whale")
    groups = {path[:length] for path in paths.values() for length in range(1, len(path))}
    assert not groups & set(paths.values())
    assert not {path[-1].casefold() for path in groups} & {name.casefold() for name in paths}
