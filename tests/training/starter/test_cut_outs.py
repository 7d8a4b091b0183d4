import numpy as np
import pytest
from PIL import Image

from tests.training.starter.made_up import COLOURS
from training.starter.cut_outs import CutOuts, main_colour
from training.starter.pictures import Picture


@pytest.mark.parametrize(("word", "colour"), [*COLOURS.items(), ("black", (8, 8, 8)), ("brown", (120, 70, 30))])
def test_colours_have_their_names(word, colour):
    assert main_colour(Image.new("RGBA", (30, 10), (*colour, 255))) == word


def test_no_colour_prevails_in_a_patchwork():
    stripes = [np.full((10, 10, 4), (*COLOURS[word], 255), np.uint8) for word in ("red", "green", "blue")]
    assert main_colour(Image.fromarray(np.hstack(stripes))) is None
    assert main_colour(Image.new("RGBA", (5, 5))) is None


def test_a_cut_out_is_trimmed_shrunk_and_read_once(tmp_path):
    image = Image.new("RGBA", (120, 80))
    image.paste((*COLOURS["blue"], 255), (10, 20, 110, 70))
    image.save(tmp_path / "a.png")
    read = CutOuts(longest_side=50)
    cut_out = read(Picture(tmp_path / "a.png", "thing"))
    assert (cut_out.name, cut_out.colour, cut_out.image.size) == ("thing", "blue", (50, 25))
    (tmp_path / "a.png").unlink()
    assert read(Picture(tmp_path / "a.png", "thing")) is cut_out
    Image.new("RGBA", (5, 5)).save(tmp_path / "empty.png")
    assert read(Picture(tmp_path / "empty.png", "nothing")) is None
