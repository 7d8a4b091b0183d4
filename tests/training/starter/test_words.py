"""Writing classifiers for the starter encoder: the pictures looked at, and the file that is made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from recognizer.encoder.encoder import load_parts, make_spec
from recognizer.encoder.starter.starter import CONSE, STARTER
from recognizer.encoder.starter.text_classifiers import signed_root
from recognizer.encoder.trained_file import TrainedFile
from training.data.record import Record, Region
from training.starter.words import CPU, encode_objects, fit_from_pictures, main

pytestmark = pytest.mark.usefixtures("one_thread")
COLOURS = {"red ball": (220, 30, 30), "blue ball": (30, 30, 220), "green ball": (30, 160, 30)}


@pytest.fixture(scope="module")
def parts():
    return load_parts(make_spec(STARTER, CONSE), device=CPU, precision="fp32")


def plain_colours(offset):
    """A composer of plain pictures; every fifth shows nothing."""

    def compose(number):
        name = list(COLOURS)[(number + offset) % len(COLOURS)]
        shade = np.random.default_rng([number, offset]).integers(-20, 20)
        image = Image.new("RGB", (224, 224), tuple(int(c + shade) for c in COLOURS[name]))
        regions = () if number % 5 == 4 else (Region((0.0, 0.0, 9.0, 9.0), (name, "a ball"), 1.0),)
        return image, Record((name,), regions)

    return compose


def test_composers_take_turns_and_what_shows_nothing_is_left_out(parts):
    features, names = encode_objects(parts, (plain_colours(0), plain_colours(1)), 70)
    shown = [plain_colours(n % 2)(n // 2)[1].regions for n in range(70)]
    assert names == [regions[0].descriptions[0] for regions in shown if regions]
    assert features.shape == (len(names), 1280)
    pixels = torch.from_numpy(np.array(plain_colours(0)(0)[0])).permute(2, 0, 1)[None]
    tower = parts.image_tower
    alone = tower.forward(tower.preprocessing.normalize(pixels)).pooled
    torch.testing.assert_close(features[:1], alone, atol=1e-4, rtol=1e-4)


def test_pictured_names_are_known_and_classes_stay_known(parts):
    features, names = encode_objects(parts, (plain_colours(0), plain_colours(1)), 90)
    written = fit_from_pictures(features, names, parts, share=0.6)
    assert written.settings.share == 0.6
    assert written.settings.texts == 1000 + len(COLOURS)

    tokens = [parts.text_tower.tokenize([f"a photo of a {name}."]) for name in COLOURS]
    own = torch.cat([parts.text_tower.forward(torch.tensor(ids)) for ids in tokens])
    answers = torch.nn.functional.normalize(signed_root(features) - written.mean, dim=-1) @ written.projection
    found = (answers @ written.classifiers(torch.nn.functional.normalize(own[:, :384], dim=-1)).T).argmax(dim=1)
    assert [list(COLOURS)[row] for row in found.tolist()] == names

    weights = parts.image_tower.network.classifier.weight.detach()
    centred = torch.nn.functional.normalize(weights - weights.mean(dim=0), dim=-1)
    kept = written.classifiers(written.texts[:1000]) @ written.projection.T
    assert torch.nn.functional.cosine_similarity(kept, centred).median() > 0.7


def test_an_encoder_on_other_towers_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    file = tmp_path / "towers.safetensors"
    file.write_bytes(TrainedFile({"kind": "open_clip"}, None, {}, {"image.weight": torch.zeros(1)}).to_bytes())
    monkeypatch.setattr("sys.argv", ["starter_words", str(tmp_path), str(file), str(tmp_path / "out.safetensors")])
    with pytest.raises(SystemExit):
        main()
    assert "is not based on the starter encoder" in capsys.readouterr().err
