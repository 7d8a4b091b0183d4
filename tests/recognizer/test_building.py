import shutil

import pytest

from memory import Category, Memory
from recognizer.building import (
    TemplateError,
    build_memory,
    published_manifest,
    read_templates,
)


def test_memory_holds_the_exemplars_that_could_be_decoded(starter, photos, tmp_path):
    for label, names in (("cat", ("cat", "retina")), ("rocket", ("rocket",)), ("nobody", ("coffee",))):
        (tmp_path / "set" / label).mkdir(parents=True)
        for name in names:
            shutil.copy(photos / f"{name}.jpg", tmp_path / "set" / label)
    (tmp_path / "set" / "cat" / "broken.jpg").write_bytes(b"text")
    warnings = []
    categories = [Category("cat"), Category("rocket")]
    build_memory(categories, tmp_path / "m", encoder=starter, exemplars=tmp_path / "set", warn=warnings.append)
    memory = Memory.open(tmp_path / "m")
    vectors = memory.vectors
    cat = [category.name for category in vectors.categories].index("cat")
    start, stop = vectors.exemplar_offsets[cat : cat + 2]
    assert vectors.exemplar_references[start:stop] == ["cat/cat.jpg", "cat/retina.jpg"]
    assert len(vectors.exemplars) == 3
    assert memory.settings["score"] == {"head": "proker", "head_beta": 3.0, "head_ridge": 0.3}
    assert any("exemplar cat/broken.jpg left out: E_NOT_IMAGE" in warning for warning in warnings)
    assert "1 exemplar left out: 'nobody' is not a category of the label file" in warnings


def test_exemplars_that_are_not_given_again_leave_with_their_head(starter, photos, tmp_path):
    (tmp_path / "set" / "cat").mkdir(parents=True)
    shutil.copy(photos / "cat.jpg", tmp_path / "set" / "cat")
    warnings = []

    def build(**options):
        categories = [Category("cat"), Category("rocket")]
        return build_memory(categories, tmp_path / "m", encoder=starter, warn=warnings.append, **options)

    assert build(exemplars=tmp_path / "set", fine_grained=True).settings.keys() == {"score", "rerank"}
    assert warnings == []
    again = build()
    assert again.settings == {"rerank": "always"}
    assert len(again.vectors.exemplars) == 0
    assert warnings == ["1 exemplar of the memory dropped; give --exemplars to keep them"]
    assert build().settings == {"rerank": "always"}  # what is not dropped with them stays


def test_what_follows_the_texts_is_said_where_there_is_an_index(starter, tmp_path):
    events = []

    def build(folder, index):
        events.clear()
        categories = [Category(f"thing {number}") for number in range(40)]
        build_memory(
            categories,
            tmp_path / folder,
            encoder=starter,
            index=index,
            progress=lambda done, total: events.append((done, total)),
            step=events.append,
        )
        return list(events)

    assert build("m", "hnsw") == [(0, 40), (40, 40), "building the index", "measuring the index"]
    assert build("m", "hnsw") == []
    assert build("n", "auto") == build("o", "exact") == [(0, 40), (40, 40)]


def test_manifest_of_a_folder_without_a_memory_is_none(tmp_path, demo_memory):
    assert published_manifest(tmp_path / "nothing") is None
    assert published_manifest(demo_memory).rows("categories") == 32


def test_templates_are_read_one_per_line(tmp_path):
    file = tmp_path / "templates.txt"
    file.write_text("\ufeffa photo of a {}\n\n  {c} \n")
    assert read_templates(file) == ("a photo of a {}", "{c}")


@pytest.mark.parametrize("content", ["", "a photo\n"])
def test_templates_without_a_placeholder_are_refused(tmp_path, content):
    file = tmp_path / "templates.txt"
    file.write_text(content)
    with pytest.raises(TemplateError, match=r"templates\.txt"):
        read_templates(file)
