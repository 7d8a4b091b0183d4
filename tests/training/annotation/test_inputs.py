import json

import pytest

from recognizer.images import ImageInputError
from tests.training.annotation.scripted import write_pictures
from training.annotation.inputs import read_descriptions, read_images
from training.errors import DataError


def found(*inputs, **options):
    images = read_images([str(each) for each in inputs], **options)
    return {image.item.key: image for image in images}, images


def test_the_caption_of_an_image_is_the_first_line_of_the_text_beside_it(tmp_path):
    write_pictures(tmp_path / "a", 4)
    (tmp_path / "a" / "000.txt").write_text("\ufeff\n  A bird. \nUn oiseau.\n", encoding="utf-8")
    (tmp_path / "a" / "001.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "a" / "002.txt").write_text("\n")
    images, _ = found(tmp_path / "a")
    assert [image.captions for image in images.values()] == [("A bird.",), (), (), ()]


@pytest.mark.parametrize(
    ("path", "subjects", "name"),
    [
        ("Snowy_owl/x/001.png", "folder", "x"),
        ("001.Snowy_owl/001.png", "folder", "Snowy owl"),
        ("top.png", "folder", None),
        ("a/snowy-owl_2.png", "file", "snowy owl"),
        ("a/snowy owl (3).png", "file", "snowy owl"),
        ("a/123.png", "file", "123"),
        ("a/owl.png", "given", None),
    ],
)
def test_a_subject_is_the_name_of_folder_or_file(tmp_path, path, subjects, name):
    place = tmp_path / "r" / path
    place.parent.mkdir(parents=True)
    write_pictures(tmp_path / "p", 1)
    (tmp_path / "p" / "000.png").rename(place)
    (image,) = found(tmp_path / "r", subjects=subjects)[0].values()
    assert image.subject == name


def test_a_table_has_paths_captions_and_subjects(tmp_path):
    (tmp_path / "t.csv").write_text(
        "File Name;label;caption;other\na.png;snowy_owl;An owl.;1\nb.png;;;2\n"
        "a.png;;A white bird.;3\n;x;y;z\na;b;c;d;e\n"
    )
    images, read = found(tmp_path / "t.csv", subjects="file")
    assert {key: (image.subject, image.captions) for key, image in images.items()} == {
        "a.png": ("snowy owl", ("An owl.", "A white bird.")),
        "b.png": ("b", ()),
    }
    assert read.left_out == {"row without a path, or with other columns": 2}
    assert images["a.png"].item.path == bytes(tmp_path / "a.png")


def test_a_manifest_has_all_that_is_known(tmp_path):
    lines = [
        {
            "image": "a.png",
            "captions": ["x", "", 3],
            "caption": "y",
            "subject": " owl\ud800 ",
            "descriptions": ["white", "\ud800"],
        },
        {"image": "a.png"},
        {"captions": ["nothing"]},
        {"image": "b.png", "regions": [{"box_xyxy": [0, 0, 2, 2], "description": "owl"}], "subject": 3},
        {"image": "\ud800.png"},
    ]
    (tmp_path / "m.jsonl").write_text("\n\n".join(map(json.dumps, lines)) + "\nno json\n")
    images, read = found(tmp_path / "m.jsonl")
    a, b = images.values()
    assert (a.captions, a.subject, a.descriptions) == (("x", "y"), "owl", ("white",))
    assert (b.captions, b.subject, len(b.regions)) == ((), None, 1)
    assert read.left_out == {
        "image that is named twice": 1,
        "no image path": 1,
        "not JSON": 1,
        "path that is not Unicode text": 1,
    }


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "path,label,name\nx,y,z\n", "path,caption\n", "\n"])
def test_a_table_without_images_is_one_sentence(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=r"t\.csv"):
        read_images([str(tmp_path / "t.csv")])


def test_inputs_without_images_are_refused(tmp_path):
    (tmp_path / "m.jsonl").write_text("\n")
    with pytest.raises(DataError, match="names no images"):
        read_images([str(tmp_path / "m.jsonl")])
    with pytest.raises(DataError, match="cannot be read"):
        read_images([str(tmp_path / "gone.jsonl")])
    with pytest.raises(ImageInputError):
        read_images([str(tmp_path)])


def test_descriptions_are_found_by_any_name_in_any_case(tmp_path):
    (tmp_path / "d.json").write_text('{"Snowy_Owl": ["white plumage", "yellow eyes"]}')
    assert read_descriptions(tmp_path / "d.json") == {"snowy owl": ("white plumage", "yellow eyes")}
    (tmp_path / "n.txt").write_text("owl\n")
    with pytest.raises(DataError, match="no descriptions"):
        read_descriptions(tmp_path / "n.txt")
    with pytest.raises(DataError, match=r"gone\.json"):
        read_descriptions(tmp_path / "gone.json")


def test_a_slice_is_a_list(tmp_path):
    images = read_images([str(write_pictures(tmp_path / "p", 3))])
    assert [image.item.key for image in images[1:]] == ["001.png", "002.png"]
