import json
import time

import pytest

from training.engine import Step
from training.train_log import TrainLog


def step(loss):
    return Step(terms={"loss": loss}, lr=0.1, grad_norm=1.0, logit_scale=14.0)


def test_tensorboard_shows_what_the_log_holds_and_a_resumed_run_goes_on(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with TrainLog(tmp_path, steps=0, total=4, samples_per_step=8, every=1) as log:
        for number, loss in enumerate((3.0, 2.5, 9.0), start=1):
            log.step(number, 0, step(loss))
    started = int(time.time())
    while int(time.time()) == started:  # files of events are read in the order of their names, which have seconds
        time.sleep(0.05)
    with TrainLog(tmp_path, steps=2, total=4, samples_per_step=8, every=1) as log:  # killed before step 3 was kept
        log.step(3, 1, step(2.0))
        log.metrics(3, 1, {"stamps": {"names": {"top1": 0.5}}})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("terms/loss")]
    assert shown == [(line["step"], line["terms"]["loss"]) for line in lines if "terms" in line]
    assert shown == [(1, 3.0), (2, 2.5), (3, 2.0)]
    assert [event.value for event in events.Scalars("zero_shot/stamps/names")] == [0.5]
