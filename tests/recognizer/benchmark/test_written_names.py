import pytest
from PIL import Image

from recognizer.benchmark.written_names import read_name, written_names
from recognizer.errors import RecognizerError
from recognizer.images import ImageItem
from recognizer.reranking.open import open_writer
from recognizer.settings import load_settings
from rerank.mllm import Failure
from tests.rerank.scripted import ScriptedMllm


def asked(tmp_path, answers, kind=None):
    items = []
    for number in range(len(answers)):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
        items.append(ImageItem(path.name.encode(), str(path).encode()))
    mllm = ScriptedMllm(write_one=lambda request: answers[request.image.getpixel((0, 0))[0]])
    writer = open_writer(load_settings(overrides=["rerank.model=none", "rerank.cache=off"]).rerank, mllm=mllm)
    return mllm, lambda: written_names(writer, items, [f"{number}" * 64 for number in range(len(items))], kind)


def test_each_name_counts_once_and_an_image_without_one_is_said(tmp_path, capsys):
    mllm, name = asked(tmp_path, ["Barn owl.", "gull", Failure("timeout"), '"barn owl"', "tern"], "bird")
    assert name() == ["Barn owl", "gull", "tern"]
    assert all(request.text.startswith("What bird does the image show?") for request in mllm.asked)
    assert "gave no name for 1 of 5 images" in capsys.readouterr().err


def test_no_name_at_all_is_an_error(tmp_path):
    mllm, name = asked(tmp_path, ["", " \n "])
    with pytest.raises(RecognizerError, match="named none of 2 images"):
        name()
    assert "What thing does" in mllm.asked[0].text


def test_a_name_is_the_first_line_of_an_answer():
    assert read_name('<think>an owl?</think>\n "Barn owl." \nIt is white.') == "Barn owl"
    assert read_name("I cannot tell which of the many kinds of gull this might be, sorry.") == ""
    assert read_name("") == ""
