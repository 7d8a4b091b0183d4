"""The whole calibration on a made-up sample, and the parts that touch images on the photographs of the demo."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from memory import Category, Memory
from memory.remote import CALIBRATION
from recognizer import Recognizer
from recognizer.calibration import calibrate as calibrate_module
from recognizer.calibration.calibrate import calibrate
from recognizer.calibration.report import print_lines, write
from recognizer.calibration.rerank import MarginFit, RerankFit, RerankOutcome
from recognizer.calibration.sample import Sample, split_halves
from recognizer.calibration.terms import UNKNOWN
from recognizer.errors import RecognizerError
from recognizer.evaluation.labelled import LabelledImages, read_labelled
from recognizer.images import ImageItem
from recognizer.memory_settings import read_calibration, sealed
from recognizer.settings import load_settings
from tests.recognizer.calibration.tables import drawn_table
from tests.recognizer.worlds import unit

RIGHT = (0.1, 0.1, 0.1, 0.7)


@pytest.fixture
def memory_copy(demo_memory, tmp_path):
    return Memory.open(shutil.copytree(demo_memory, tmp_path / "memory"))


@pytest.fixture
def recognizer(starter, memory_copy):
    """The demo's memory under a temperature that makes everything far too sure."""
    return Recognizer(starter, memory_copy, settings=load_settings(overrides=["score.temperature=0.02"]))


@pytest.fixture
def sample(monkeypatch, recognizer):
    """600 images whose labels are drawn from the softmax of RIGHT at temperature 0.1; 20 are of no category."""
    rng = np.random.default_rng(0)
    categories = len(recognizer.memory.vectors.categories)
    table = drawn_table(rng, 600, categories, RIGHT, 0.1, spread=0.35)
    table.truth[:20] = UNKNOWN
    hashes = [f"file {number}" for number in range(598)] + ["file 0", "file 30"]
    items = [ImageItem(str(number).encode(), str(number).encode()) for number in range(600)]
    made = Sample(items, table.truth.copy(), table, unit(rng, 600, 64), hashes, {"E_EMPTY": 2}, {"dragon": 20})
    monkeypatch.setattr(calibrate_module, "measure_sample", lambda *_, **__: made)
    return made


@pytest.fixture
def calibration(recognizer, sample):
    return calibrate(recognizer, LabelledImages([], []))


def take_out_nothing(monkeypatch, *, from_report):
    """Split as always, but with no category taken out of the half to fit on, and on demand of the other."""
    nothing = np.array([], np.int64)

    def split(*arguments, **keywords):
        fit, report = split_halves(*arguments, **keywords)
        return replace(fit, taken_out=nothing), replace(report, taken_out=nothing) if from_report else report

    monkeypatch.setattr(calibrate_module, "split_halves", split)


def test_calibration_finds_what_drew_the_labels_and_holds_on_the_other_half(calibration):
    score, before, after = calibration.score, calibration.before, calibration.after
    np.testing.assert_allclose(score.weights(), RIGHT, atol=0.07)
    assert score.temperature == pytest.approx(0.1, rel=0.15)
    assert score.calibrated
    assert before.reliability.error > 0.2
    assert after.reliability.error < after.chance_error + 0.03
    assert after.top1.value > before.top1.value
    assert after.loss.value < before.loss.value
    assert after.coverage_area.value > before.coverage_area.value
    assert after.unknown_auroc.value > 0.55
    assert (after.known_kept + after.unknown_found) / 2 > 0.5
    assert after.top1.low <= after.top1.value <= after.top1.high
    assert before.known_kept is None
    assert before.unknown_found is None


def test_halves_share_no_copies_and_their_unknown_images_are_counted(calibration, sample):
    fit, report = calibration.fit, calibration.report
    keys = [{item.key_bytes for item in half.items} for half in (fit, report)]
    assert keys[0] | keys[1] == {item.key_bytes for item in sample.items}
    assert not keys[0] & keys[1]
    assert {b"0", b"598"} <= keys[0] or {b"0", b"598"} <= keys[1]
    assert {b"30", b"599"} <= keys[0] or {b"30", b"599"} <= keys[1]
    assert calibration.copies == 2
    for half in (fit, report):
        assert [int(item.key_bytes) for item in half.items] == sorted(int(item.key_bytes) for item in half.items)
        assert half.rows.tolist() == sample.rows[[int(item.key_bytes) for item in half.items]].tolist()
        assert half.unknown == np.isin(half.rows, [UNKNOWN, *half.taken_out]).sum()
    assert not set(fit.taken_out) & set(report.taken_out)
    assert fit.unknown + report.unknown > 20


def test_weights_and_temperature_do_not_know_which_categories_are_taken_out(calibration, recognizer, monkeypatch):
    take_out_nothing(monkeypatch, from_report=False)
    again = calibrate(recognizer, LabelledImages([], []))
    assert again.score.weights() == calibration.score.weights()
    assert again.score.temperature == calibration.score.temperature
    assert again.score.unknown_threshold != calibration.score.unknown_threshold


def test_run_picks_up_what_was_written(calibration, recognizer, tmp_path):
    full = replace(calibration, rerank=RerankFit(1.5, MarginFit(0.25, 0.4, 0.97)))
    path = write(full, recognizer, figures=tmp_path / "figures")
    assert path == recognizer.memory.directory / CALIBRATION
    memory = Memory.open(recognizer.memory.directory)
    assert all(finding.ok for finding in memory.verify())
    warnings = []
    base = read_calibration(memory, warn=warnings.append)
    settings = load_settings(base=base)
    assert settings.score == calibration.score
    assert (settings.rerank.margin, settings.rerank.weight) == (0.25, 1.5)
    assert not warnings
    row = Recognizer(recognizer.encoder, memory, settings=settings).recognize([Image.new("RGB", (64, 64))])[0]
    assert row.calibrated
    assert row.unknown is not None

    content = json.loads((tmp_path / "figures" / "calibration.json").read_text())
    assert content["after"]["calibration_error"] == calibration.after.reliability.error
    assert content["before"]["top1_interval"][0] <= content["before"]["top1"]
    assert sum(one["images"] for one in content["after"]["reliability"]) == int((calibration.report.rows >= 0).sum())
    for name in ("reliability.png", "coverage.png"):
        with Image.open(tmp_path / "figures" / name) as diagram:
            assert diagram.width > 600
            assert len(diagram.convert("RGB").getcolors(maxcolors=1 << 20)) > 20


def test_a_memory_with_groups_gets_thresholds_of_roll_up_that_a_run_uses(recognizer, sample, starter, tmp_path):
    names = [category.name for category in recognizer.memory.vectors.categories]
    categories = [Category(name, f"kind {number % 2} > sort {number % 4}") for number, name in enumerate(names)]
    memory = Memory.build(categories, tmp_path / "grouped", encoder=starter, templates=["{}"])
    grouped = Recognizer(starter, memory)
    calibration = calibrate(grouped, LabelledImages([], []), roll_up_accuracy=0.7)
    fit = calibration.roll_up
    assert calibration.score.roll_up_thresholds == fit.thresholds
    assert fit.stated == 0.7
    assert fit.report.accuracy.value == pytest.approx(0.7, abs=0.08)
    assert calibrate(grouped, LabelledImages([], []), roll_up_accuracy=0.9).roll_up.thresholds[0] > fit.thresholds[0]
    write(calibration, grouped, figures=tmp_path / "figures")
    content = json.loads((tmp_path / "figures" / "calibration.json").read_text())
    assert content["roll_up"]["report"]["answered"] == fit.report.answered
    assert "accuracy 0.7 stated" in "\n".join(print_lines(calibration))
    settings = load_settings(overrides=["score.roll_up=auto"], base=read_calibration(memory))
    row = Recognizer(starter, memory, settings=settings).recognize([Image.new("RGB", (64, 64))])[0]
    assert (row.status == "below") == (row.source is None)


def test_the_curve_of_precision_is_of_the_half_that_was_fitted_on(calibration):
    assert calibration.roll_up is None
    curve = calibration.score.precision_curve
    assert max(images for _, _, images in curve) <= len(calibration.fit.items)
    assert [precision for _, precision, _ in curve] == sorted(precision for _, precision, _ in curve)
    for each in calibration.precision:
        assert each.confidence == min(confidence for confidence, precision, _ in curve if precision >= each.asked)
    assert "the best precision that these images support is" in "\n".join(print_lines(calibration))


def test_file_fitted_on_another_memory_is_ignored_with_a_sentence(calibration, recognizer, starter, tmp_path):
    path = write(calibration, recognizer, settings=tmp_path / "elsewhere.yaml", figures=tmp_path)
    memory = Memory.open(recognizer.memory.directory)
    assert read_calibration(memory) is None  # nothing in the memory's own directory
    assert read_calibration(memory, path) is not None
    content = yaml.safe_load(path.read_text())
    for key, value, said in (("encoder", "0" * 64, "another encoder"), ("memory", "0" * 64, "other tables")):
        other = content | {"calibration": content["calibration"] | {key: value}}
        (tmp_path / "other.yaml").write_text(sealed(yaml.safe_dump(other)))
        warnings = []
        assert read_calibration(memory, tmp_path / "other.yaml", warn=warnings.append) is None
        assert said in warnings[0]
    memory.add([Category("something new")], encoder=starter)
    warnings = []
    assert read_calibration(memory, path, warn=warnings.append) is None
    assert "other tables" in warnings[0]
    assert "recognizer calibrate" in warnings[0]


def test_report_says_what_was_found_and_what_was_left_out(calibration):
    outcome = RerankOutcome(100, 0.5, 0.75, 0.625, 0.42, 0.5)
    rerank = RerankFit(1.5, MarginFit(0.25, 0.4, 0.97), outcome)
    text = "\n".join(print_lines(replace(calibration, rerank=rerank)))
    assert f"{calibration.before.reliability.error:.3f}" in text
    assert f"{calibration.score.temperature:g}" in text
    assert "2 images could not be decoded (E_EMPTY)" in text
    assert "20 images taken for unknown: 'dragon'" in text
    assert "2 copies of other images" in text
    for verb, half in (("fitted", calibration.fit), ("reported", calibration.report)):
        away = sum(row in half.taken_out for row in half.rows.tolist())
        unnamed = sum(row == UNKNOWN for row in half.rows.tolist())
        assert away > len(half.taken_out) > 1  # so that images are not taken for categories
        unknown = f"{away} images of {len(half.taken_out)} categories that were taken out"
        unknown += f" and {unnamed} images with a label that names no category"
        assert f"{verb} on {len(half.items)} images, unknown among them: {unknown}" in text
    assert "40% of the images to fit on for 97% of the gain" in text
    assert "0.500 without, 0.750 asking always, 0.625 asking about 42%" in text


def test_without_unknown_images_there_is_no_threshold(recognizer, sample, monkeypatch):
    take_out_nothing(monkeypatch, from_report=True)
    sample.rows[:20] = sample.table.truth[:20] = 0
    calibration = calibrate(recognizer, LabelledImages([], []))
    assert calibration.score.unknown_threshold is None
    assert np.isnan(calibration.after.unknown_auroc.value)
    assert "no threshold of unknown" in "\n".join(print_lines(calibration))
    json.dumps(read_figures(calibration), allow_nan=False)


def read_figures(calibration):
    from recognizer.calibration.report import figures

    return [figures(calibration.before), figures(calibration.after)]


def test_a_handful_of_images_is_refused(demo_recognizer, photos, tmp_path):
    (tmp_path / "tabby cat").mkdir()
    shutil.copy(photos / "cat.jpg", tmp_path / "tabby cat" / "1.jpg")
    with pytest.raises(RecognizerError, match="at least 20"):
        calibrate(demo_recognizer, read_labelled(tmp_path))


def test_nothing_decodable_is_refused(demo_recognizer, tmp_path):
    (tmp_path / "tabby cat").mkdir()
    (tmp_path / "tabby cat" / "1.jpg").write_bytes(b"")
    with pytest.raises(RecognizerError, match="E_EMPTY"):
        calibrate(demo_recognizer, read_labelled(tmp_path))


def test_the_known_images_fitted_on_also_give_the_threshold_by_negative_labels(recognizer, sample, tmp_path):
    class Rule:
        def fit(self, images):
            self.images = images
            return recognizer.settings.unknown.model_copy(update={"threshold": 0.25, "fitted_for": 0.05})

    recognizer.negatives = rule = Rule()
    calibration = calibrate(recognizer, LabelledImages([], []))
    known = calibration.fit.images[calibration.fit.rows != UNKNOWN]
    assert np.array_equal(rule.images, sample.vectors[known])
    assert any("known score of 0.25" in line for line in print_lines(calibration))
    write(calibration, recognizer, figures=tmp_path)
    assert read_calibration(recognizer.memory)["unknown"] == {"rate": 0.05, "threshold": 0.25, "fitted_for": 0.05}
