import json
import shutil
import subprocess
import sys
import time

import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from recognizer.cli import app
from recognizer.encoder import Encoder
from recognizer.encoder.trained_file import TrainedFile
from tests.forked import start_command
from tests.training.runs import largest_difference, make_config, make_settings, write_data, write_labelled
from training.checkpoint import Checkpoints
from training.config import TrainConfig
from training.errors import DataError
from training.run import train

pytestmark = pytest.mark.usefixtures("one_thread")


def newest(output):
    return Checkpoints(output / "checkpoints", keep=1, run="").newest()


def lines(output):
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def random_settings(model, pictures):
    """Settings in which everything that is random or kept takes part."""
    augment = {"crop_scale": [0.5, 1.0], "flip": 0.5}
    return make_settings(
        model,
        pictures,
        decoder={"dropout": 0.3},
        data={"samples": {"augment": augment}},
        batch_size=2,
        accumulate=2,
        ema=0.9,
        save_every_steps=1,
        schedule={"epochs": 3, "warmup_epochs": 1},
    )


def test_killed_and_resumed_is_uninterrupted_bit_for_bit(tiny_model, pictures, tmp_path):
    settings = random_settings(tiny_model, pictures)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    process = start_command("train", path, "--output", tmp_path / "killed", "--device", "cpu", OMP_NUM_THREADS="1")
    awaited = tmp_path / "killed" / "checkpoints" / "step-00000006"  # within the second epoch
    deadline = time.monotonic() + 120
    while not awaited.exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    killed_at = newest(tmp_path / "killed").state["steps"]
    assert 5 <= killed_at < 12
    config = TrainConfig.model_validate(settings)
    train(config, tmp_path / "killed", device="cpu")
    train(config, tmp_path / "whole", device="cpu")
    killed, whole = newest(tmp_path / "killed"), newest(tmp_path / "whole")
    assert killed.state["steps"] == whole.state["steps"] == 12
    for name in ("weights", "ema", "optimizer", "rank-0"):
        some, others = killed.tensors(name), whole.tensors(name)
        assert some.keys() == others.keys()
        assert all(torch.equal(value, others[key]) for key, value in some.items()), name
    assert largest_difference(whole.tensors("ema"), whole.tensors("weights")) > 1e-5
    logs = [[(line["step"], line.get("terms")) for line in lines(tmp_path / name)] for name in ("killed", "whole")]
    assert logs[0] == logs[1]
    files = [TrainedFile.read(tmp_path / name / "encoder.safetensors").tensors for name in ("killed", "whole")]
    assert all(torch.equal(value, files[1][key]) for key, value in files[0].items())


def test_the_order_of_random_numbers_does_not_depend_on_evaluation(tiny_model, pictures, tmp_path):
    plain = random_settings(tiny_model, pictures) | {"schedule": {"epochs": 2}}
    measured = plain | {"evaluation": {"development": [write_labelled(tmp_path)]}}
    for name, settings in {"plain": plain, "measured": measured}.items():
        train(TrainConfig.model_validate(settings), tmp_path / name, device="cpu")
    some, others = (newest(tmp_path / name).tensors("weights") for name in ("plain", "measured"))
    assert all(torch.equal(value, others[key]) for key, value in some.items())


def test_the_command_trains_measures_and_resumes(tiny_model, pictures, tmp_path):
    labelled = write_labelled(tmp_path)
    evaluation = {"development": [labelled], "held_out": [labelled | {"name": "last"}]}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(make_settings(tiny_model, pictures, evaluation=evaluation, ema=0.9)))
    output = tmp_path / "out"
    first = ["train", str(path), "--output", str(output), "--device", "cpu"]
    result = CliRunner().invoke(app, first, catch_exceptions=False)
    assert result.exit_code == 0
    for text in ("epoch 1   parity", "epoch 2   parity", "held out  last", "+ regions", "8 steps"):
        assert text in result.stdout
    encoder = Encoder.load(str(output / "encoder.safetensors"), device="cpu", precision="fp32")
    assert encoder.region_source == "grounding decoder"
    card = TrainedFile.read(output / "encoder.safetensors").card
    assert (card["epochs"], card["steps"], card["data"]["samples"]) == (2, 8, 16)
    assert set(card["metrics"]) == {"development", "held_out"}
    assert {"torch", "device", "processes", "threads"} == set(card["hardware"])
    assert card["config"]["ema"] == 0.9
    logged = lines(output)
    assert [line["step"] for line in logged if "terms" in line] == list(range(1, 9))
    assert {"terms", "lr", "grad_norm", "images_per_s", "logit_scale", "epoch"} <= set(logged[0])
    assert [line["epoch"] for line in logged if "rejects" in line] == [1, 2]
    measured = [line["zero_shot"] for line in logged if "zero_shot" in line]
    assert [list(sets) for sets in measured] == [["parity"], ["parity"], ["last"]]
    assert measured[0]["parity"]["names"]["images"] == 8
    again = CliRunner().invoke(app, first, catch_exceptions=False)
    assert again.stdout == result.stdout
    assert lines(output) == logged
    longer = CliRunner().invoke(app, [*first, "--set", "schedule.epochs=3"], catch_exceptions=False)
    assert "12 steps" in longer.stdout
    assert "resuming from" in longer.stderr
    assert "epoch 3" in longer.stdout


@pytest.mark.gpu
def test_a_run_on_a_gpu_resumes(tiny_model, pictures, tmp_path, cuda):
    settings = random_settings(tiny_model, pictures) | {"amp": "fp16"}
    train(TrainConfig.model_validate(settings), tmp_path / "whole", device=cuda)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(max((tmp_path / "cut" / "checkpoints").glob("step-*")))
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", "-m", "recognizer", "train"]
    command += [str(path), "--output", str(tmp_path / "cut"), "--device", cuda]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "resuming from" in done.stderr
    whole, cut = (newest(tmp_path / name).tensors("weights") for name in ("whole", "cut"))
    assert max(float((value - cut[key]).abs().max()) for key, value in whole.items()) < 1e-3


def test_an_encoder_trained_from_a_trained_file_works_without_that_file(tiny_model, pictures, tmp_path):
    first = train(make_config(tiny_model, pictures, schedule={"epochs": 1}), tmp_path / "first")
    frozen = {"image_tower": {"lr_share": 0.0}, "schedule": {"epochs": 1}}
    second = train(make_config(str(first.encoder), pictures, **frozen), tmp_path / "second")
    photo = [Image.open(pictures.parent / "0.png")]
    image = TrainedFile.read(first.encoder).part("image")
    first.encoder.unlink()
    alone = Encoder.load(str(second.encoder), device="cpu", precision="fp32")
    assert alone.encode_images(photo).regions.shape[-1] == 32
    kept = TrainedFile.read(second.encoder)
    assert kept.base["kind"] == "open_clip"
    assert image.keys() == kept.part("image").keys()
    assert all(torch.equal(image[name], tensor) for name, tensor in kept.part("image").items())


def test_bad_samples_are_counted_and_training_continues(tiny_model, tmp_path, capsys):
    data = write_data(tmp_path, bad=["{\n", json.dumps({"image": "none.png", "caption": "x"}) + "\n"])
    config = make_config(
        tiny_model, data, data={"samples": {"max_bad_share": 0.5}}, schedule={"epochs": 1}, batch_size=6
    )
    assert train(config, tmp_path / "run", device="cpu").steps == 3
    assert "2 of 20 samples could not be used: missing image 1, not JSON 1" in capsys.readouterr().err
    strict = make_config(tiny_model, data, schedule={"epochs": 1}, batch_size=6)
    with pytest.raises(DataError, match="are bad"):
        train(strict, tmp_path / "strict", device="cpu")
