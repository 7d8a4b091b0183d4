from pathlib import Path

import pytest

from recognizer.encoder import Encoder
from recognizer.yaml_settings import load_yaml_settings
from tests.training.runs import write_data
from training.config import TrainConfig
from training.run import train_from_file

FOLDER = Path(__file__).parents[2] / "configs" / "train"
CONFIGS = sorted(FOLDER.rglob("*.yaml"))


def test_there_are_configs():
    assert {"smoke", "grain_vitb16_cc3m", "grain_vitb16_cc12m", "clip_vitb16_cc3m"} <= {path.stem for path in CONFIGS}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_builds_and_takes_two_steps(path, tiny_model, tmp_path):
    config = load_yaml_settings(TrainConfig, path)
    data = write_data(tmp_path / "data", 4)
    # The encoder as it is where that takes seconds; 150 million weights are replaced by a tiny model of the same kind.
    smaller = [] if config.encoder.model == "starter" else [f"encoder={{model: '{tiny_model}', pretrained: null}}"]
    if smaller:
        smaller += ["decoder.layers=1"] if config.decoder else []
    if config.data.cache is not None:
        smaller += [f"data.cache={tmp_path / 'cache'}"]
    quick = [
        "batch_size=2",
        "schedule.epochs=1",
        "data.workers=0",
        "evaluation.development=[]",
        "evaluation.held_out=[]",
        f"data.train=[{data}]",
    ]
    result = train_from_file(path, [*smaller, *quick], output=tmp_path / "run", device="cpu")
    assert result.steps == 2
    loaded = Encoder.load(str(result.encoder), device="cpu", precision="fp32")
    assert (loaded.region_source == "grounding decoder") == (config.decoder is not None)
