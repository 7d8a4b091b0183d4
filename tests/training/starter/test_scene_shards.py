import json

import pytest

from tests.training.starter.made_up import PLAIN, names_of, plain_composer
from training.data.record import Rejects, make_record
from training.data.shards import Shards, write_shards
from training.starter.composer import Composer
from training.starter.pictures import TRAINING, Picture, fold, in_folds
from training.starter.scene_shards import main, make_composer, scene_samples
from training.starter.scene_texts import SceneTexts


@pytest.mark.parametrize("bad_fold", [0, 1])
def test_no_name_of_another_fold_enters_training_scenes(made_up, bad_fold):
    root, pictures = made_up
    intruder = Picture(pictures[0].path, names_of([bad_fold], 1)[0])
    shouted = Picture(pictures[0].path, pictures[0].name.upper())
    composer = make_composer(root, [*pictures, intruder], seed=0, settings=PLAIN)
    said = str([composer(number)[1] for number in range(40)])
    assert intruder.name not in said
    with pytest.raises(ValueError, match=f"{intruder.name!r} is in fold {bad_fold}"):
        Composer([*pictures, intruder], [root], SceneTexts(TRAINING), seed=0)
    if fold(shouted.name) not in TRAINING:
        assert pictures[0] not in in_folds([*pictures, shouted], TRAINING)


def test_development_scenes_hold_development_names_alone(made_up):
    root, pictures = made_up
    names = names_of([1], 2)
    more = [Picture(pictures[0].path, name) for name in (*names, *names_of([0], 2))]
    composer = make_composer(root, [*pictures, *more], seed=0, purpose="development", settings=PLAIN)
    found = {region.descriptions[0] for number in range(20) for region in composer(number)[1].regions}
    assert found == set(names)


def test_shards_of_scenes_hold_the_scenes(made_up, tmp_path):
    composer = plain_composer(made_up)
    shards = Shards(write_shards(scene_samples(composer, 5), tmp_path, per_shard=2))
    assert len(shards) == 5
    rejects = Rejects()
    for number in range(5):
        raw = shards.read(number)
        assert make_record(raw.fields, (160, 160), rejects) == composer(number)[1]
    assert not rejects.parts


def test_the_command_writes_shards_and_what_they_were_made_with(made_up, tmp_path, monkeypatch, capsys):
    root, pictures = made_up
    monkeypatch.setattr("training.starter.scene_shards.qabcs", lambda folder: pictures if folder == root else [])
    arguments = [str(root), str(tmp_path), "--count", "3", "--size", "64", "--seed", "5", "--sets", "qabcs"]
    monkeypatch.setattr("sys.argv", ["scene_shards", *arguments])
    main()
    assert len(Shards(sorted(tmp_path.glob("*.tar")))) == 3
    facts = json.loads((tmp_path / "scenes.json").read_text())
    expected = {"seed": 5, "count": 3, "size": 64, "plain": 0.0, "sets": ["qabcs"], "backgrounds": "scratch"}
    assert facts == expected | {"purpose": "training"}
    assert "1 shards" in capsys.readouterr().err
