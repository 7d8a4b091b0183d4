"""The whole chain, with a scripted MLLM and detector."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from recognizer.errors import RecognizerError
from recognizer.images import ImageLimits
from recognizer.settings import RerankSettings
from rerank.mllm import Failure, MllmUnavailable
from tests.campaign import kill_annotate
from tests.recognizer.commands import call
from tests.rerank.scripted import ScriptedScorer
from tests.training.annotation.scripted import (
    FEATURES,
    Log,
    LoggedDetector,
    LoggedMllm,
    answer,
    number_of,
    settings,
    write_pictures,
)
from training.annotation.annotate import OnRay, annotate, report_path, store_path
from training.annotation.detector import Found
from training.annotation.inputs import BareImages, read_descriptions, read_images
from training.annotation.output import check_output
from training.annotation.stage import CHANGED
from training.data.record import Rejects, make_record
from training.data.sources import open_sources
from training.errors import DataError


class Chain:
    """Annotates pictures with logged models."""

    def __init__(self, folder, count):
        self.folder = folder
        self.pictures = write_pictures(folder / "pictures", count)
        self.output = folder / "out.jsonl"
        self.asked, self.detected = Log(folder / "asked"), Log(folder / "detected")
        self.warnings = []

    def run(self, *inputs, write_one=answer, found=None, subjects="given", output=None, **changes):
        return annotate(
            read_images([*map(str, inputs)] or [str(self.pictures)], subjects=subjects),
            output or self.output,
            settings(**changes),
            warn=self.warnings.append,
            mllm=LoggedMllm(self.asked, write_one=write_one) if changes.get("mllm", True) else None,
            detector=LoggedDetector(self.detected, found=found),
        )

    def lines(self):
        return [json.loads(line) for line in self.output.read_text().splitlines()]


@pytest.fixture
def chain(tmp_path):
    return Chain(tmp_path, 7)


def records(path, size_hw=(30, 40)):
    """What training reads."""
    source = open_sources([path])
    samples = [source.read(row) for row in range(len(source))]
    rejects = Rejects()
    made = [make_record(sample.fields, size_hw, rejects) for sample in samples]
    assert not rejects.bad
    assert not rejects.parts
    return made


def test_bare_images_become_what_training_reads(chain):
    (chain.pictures / "003.txt").write_text("the original")
    outcome = chain.run()
    first, *_ = made = records(chain.output)
    assert [record.captions for record in made[2:4]] == [("Picture 2.",), ("the original", "Picture 3.")]
    assert {text: region.box_xyxy for region in first.regions for text in region.descriptions} == {
        "bird 0": (0, 6, 15.25, 16),
        "long curved beak": (0, 16, 15.25, 26),
        "red tail": (0, 8, 15.25, 18),
        "white wing": (0, 10, 15.25, 20),
    }
    assert [region.score for region in first.regions] == sorted(
        (region.score for region in first.regions), reverse=True
    )
    assert (outcome.report.records, outcome.report.boxes) == (7, 28)
    assert outcome.report.counts == {"repeated description": 7}


def test_every_record_says_what_made_it(chain):
    chain.run(max_area=0.9)
    annotation = chain.lines()[0]["annotation"]
    assert {name: annotation[name]["model"] for name in ("caption", "subject", "descriptions", "boxes")} == {
        "caption": "scripted",
        "subject": "scripted",
        "descriptions": "scripted",
        "boxes": "logged",
    }
    assert "What can be seen of this SUBJECT" in annotation["descriptions"]["prompt"]
    assert (annotation["boxes"]["threshold"], annotation["boxes"]["nms_iou"]) == (0.3, 0.5)
    assert (annotation["gates"]["max_area"], annotation["original_captions"]) == (0.9, 0)
    report = json.loads(report_path(chain.output).read_text())
    assert report["stages"]["caption"]["max_tokens"] == 120
    assert report["records"] == 7


def test_images_are_asked_about_in_batches_and_detected_in_one_pass_each(chain):
    outcome = chain.run(mllm_batch=4)
    assert [len(batch) for batch in chain.detected.batches()] == [3, 3, 1]
    assert outcome.calls == {"caption": 2, "subject": 2, "descriptions": 2, "boxes": 3}
    asked = [each for batch in chain.asked.batches() for each in batch]
    assert len(asked) == len(set(asked)) == 21


def test_nothing_is_asked_or_computed_twice(chain):
    chain.run()
    before = chain.output.read_bytes()
    asked, detected = len(chain.asked.batches()), len(chain.detected.batches())
    assert chain.run().calls == {}
    assert chain.output.read_bytes() == before
    write_pictures(chain.pictures, 9)  # two are new
    for number in range(7):  # the others are as they were, under another time
        os.utime(chain.pictures / f"{number:03}.png", (number, number))
    assert chain.run().calls == {"caption": 1, "subject": 1, "descriptions": 1, "boxes": 1}
    assert chain.output.read_bytes().startswith(before)
    assert chain.run(most_boxes=1, max_area=0.01).calls == {}
    assert chain.run(threshold=0.4).calls == {"boxes": 3}
    assert len(chain.asked.batches()) == asked + 3
    assert len(chain.detected.batches()) == detected + 4


def test_equal_images_are_asked_about_once(chain):
    for number in range(1, 7):
        (chain.pictures / f"{number:03}.png").write_bytes((chain.pictures / "000.png").read_bytes())
    chain.run()
    assert [len(batch) for batch in chain.asked.batches()] == [1, 1, 1]
    assert len(chain.lines()) == 7


def test_shards_hold_the_same_records(chain):
    chain.run()
    shards = chain.folder / "shards"
    chain.run(output=shards)
    assert records(shards) == records(chain.output)
    source = open_sources([shards])
    assert source.read(2).image == (chain.pictures / "002.png").read_bytes()
    assert source.read(2).fields["path"] == "002.png"


def test_subjects_and_descriptions_that_are_known_are_not_asked_for(chain):
    (chain.folder / "d.json").write_text('{"000": ["grey plumage", "red beak"], "1": []}')
    known = read_descriptions(chain.folder / "d.json")
    chain.run(subjects="file", known=known, write_one=lambda request: '{"descriptions": ["tail"], "caption": "x"}')
    asked = [each for batch in chain.asked.batches() for each in batch]
    assert sum("primary subject" in each for each in asked) == 0
    assert sum("What can be seen" in each for each in asked) == 6
    texts = [[text for region in record.regions for text in region.descriptions] for record in records(chain.output)]
    assert [sorted(each) for each in texts[:2]] == [["000", "grey plumage", "red beak"], ["001", "tail"]]


def test_without_an_mllm_names_and_descriptions_are_enough(chain):
    outcome = chain.run(subjects="file", mllm=None, known={"000": ("grey plumage",)})
    first, second, *_ = records(chain.output)
    assert (first.captions, len(first.regions), len(second.regions)) == (("000",), 2, 1)
    assert outcome.report.counts["caption: the subject"] == 7
    assert outcome.report.counts["subject without descriptions"] == 6
    assert chain.asked.batches() == []


def test_an_image_without_any_text_is_left_out_and_counted(chain):
    outcome = chain.run(mllm=None)
    assert outcome.report.left_out == {f"{number:03}.png": "no caption" for number in range(7)}
    assert outcome.report.counts == {"image left out: no caption": 7}
    assert chain.output.read_text() == ""


@pytest.mark.parametrize(
    ("replies", "reason", "regions"),
    [
        ({"subject": "I'm sorry, I can't."}, "subject: refused", 0),
        ({"subject": '{"subject": "none"}'}, "image without a subject", 0),
        ({"subject": "well " * 50}, "subject: more than 6 words", 0),
        ({"What can": "well " * 50}, "descriptions: unreadable reply", 1),
        ({"What can": '{"descriptions": ["' + "very " * 40 + 'red"]}'}, "description of more than 30 words", 1),
        ({"caption": "I cannot help with this."}, "caption: refused", 4),
    ],
)
def test_an_mllm_that_refuses_or_rambles_costs_its_own_texts_alone(chain, replies, reason, regions):
    def write_one(request):
        odd = number_of(request.image) == 4
        return next((reply for word, reply in replies.items() if odd and word in request.text), answer(request))

    (chain.pictures / "004.txt").write_text("an original")
    outcome = chain.run(write_one=write_one)
    made = records(chain.output)
    assert outcome.report.counts[reason] == 1
    assert [len(record.regions) for record in made] == [4] * 4 + [regions] + [4] * 2
    assert made[4].captions[0] == "an original"
    assert chain.run().calls == {}


def test_what_an_mllm_did_not_answer_is_asked_again(chain):
    def failing(request):
        return Failure("timeout") if number_of(request.image) == 4 else answer(request)

    first = chain.run(write_one=failing)
    assert first.unanswered == {("caption", "timeout"): 1, ("subject", "timeout"): 1}
    assert first.report.left_out == {"004.png": "no caption"}
    assert chain.run().calls == {"caption": 1, "subject": 1, "descriptions": 1, "boxes": 1}
    assert len(records(chain.output)) == 7


def test_a_dead_mllm_is_left_alone(chain):
    outcome = chain.run(write_one=lambda request: Failure("unreachable", hopeless=True))
    assert outcome.calls["caption"] == 2
    assert chain.asked.batches()[1:] == []
    assert any("left alone" in warning for warning in chain.warnings)


def test_a_reranker_writes_nothing(chain):
    with pytest.raises(RecognizerError, match="writes nothing"):
        annotate(
            read_images([str(chain.pictures)]),
            chain.output,
            settings(),
            mllm=ScriptedScorer({}),
            detector=LoggedDetector(chain.detected),
        )


def test_an_unknown_detector_is_refused_before_the_mllm_writes(chain):
    with pytest.raises(DataError, match=r"there is no directory \./gone/model"):
        annotate(
            read_images([str(chain.pictures)]),
            chain.output,
            settings(detector="./gone/model"),
            mllm=LoggedMllm(chain.asked),
        )
    assert chain.asked.batches() == []


def test_faults_of_device_server_and_detector_are_one_error_before_an_image_is_read(chain):
    dead = "http://127.0.0.1:9/v1"
    pictures = read_images([str(chain.pictures)])
    with pytest.raises(DataError) as caught:
        annotate(
            pictures,
            chain.output,
            replace(settings(detector="./gone/model", device="cuda:99"), mllm=RerankSettings(model=dead)),
        )
    faults = ["device 'cuda:99' does not exist", f"{dead} does not answer", "there is no directory ./gone/model"]
    assert [fault in str(caught.value) for fault in faults] == [True] * 3
    with pytest.raises(MllmUnavailable, match="does not answer"):  # one fault keeps its kind
        annotate(pictures, chain.output, replace(settings(detector="mask"), mllm=RerankSettings(model=dead)))
    assert not store_path(chain.output).exists()


def test_a_server_that_the_machines_of_a_cluster_reach_is_not_asked_from_here(chain):
    away = replace(settings(detector="./gone/model"), mllm=RerankSettings(model="http://127.0.0.1:9/v1"))
    with pytest.raises(DataError, match=r"^there is no directory \./gone/model"):
        annotate(read_images([str(chain.pictures)]), chain.output, away, ray=OnRay("127.0.0.1:9"))


@pytest.mark.parametrize(
    ("boxes", "scores", "kept"),
    [
        ([], [], 0),
        ([[5, 5, 5, 9], [9, 9, 3, 3], [50, 40, 60, 50], [float("nan"), 0, 9, 9]], [0.9] * 4, 0),
        ([[i % 50, i % 37, i % 50 + 6, i % 37 + 5] for i in range(5000)], list(np.linspace(0.3, 0.9, 5000)), 6),
    ],
    ids=["none", "without area", "thousands"],
)
def test_any_number_of_boxes_is_recorded(chain, boxes, scores, kept):
    found = Found(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32))
    outcome = chain.run(found=lambda image, text: found, most_boxes=6)
    made = records(chain.output)
    assert [len(record.regions) for record in made] == [kept] * 7
    assert all(region.descriptions == ("bird 0", *FEATURES[:2], FEATURES[3]) for region in made[0].regions)
    assert outcome.report.counts["image without a box"] == (0 if kept else 7)
    assert outcome.report.counts["description without a box"] == (0 if kept else 28)


def test_gates_leave_out_and_count(chain):
    found = Found(np.array([[0, 0, 40, 30], [0, 0, 10, 10]], np.float32), np.array([0.9, 0.8], np.float32))
    features = ["long curved beak", "a long beak, curved", "red tail"]
    outcome = chain.run(
        found=lambda image, text: found,
        write_one=lambda request: json.dumps({"descriptions": features, "caption": "c", "subject": "bird"}),
        max_area=0.95,
        max_overlap=0.7,
    )
    assert records(chain.output)[0].regions[0].descriptions == ("bird", "long curved beak", "red tail")
    assert outcome.report.counts["box that covers nearly everything"] == 21
    assert outcome.report.counts["near-duplicate description"] == 7


def test_descriptions_that_an_encoder_scores_below_the_mean_are_left_out(chain, photos, encoders_loaded_once):
    (chain.folder / "t.csv").write_text(f"path,label\n{photos / 'cat.jpg'},tabby cat\n")
    known = {"tabby cat": ("striped fur of a cat", "wheels of a truck", "whiskers of a cat")}
    outcome = chain.run(chain.folder / "t.csv", mllm=None, known=known, gate_encoder="starter")
    assert outcome.report.counts["description scored below the image's mean"] == 1
    (texts,) = (each for batch in chain.detected.batches() for each in batch)
    assert "wheels" not in texts


def test_descriptions_are_shortened_for_the_detector_kept_whole_in_the_record_and_counted(chain):
    outcome = chain.run(
        subjects="file", mllm=None, known={"000": ("a beak that is red", "a beak that is blue", *"abcdefghij")}
    )
    assert outcome.report.counts["description shortened for the detector"] == 2
    assert outcome.report.counts["description beyond the first 10"] == 2
    texts = {text for region in records(chain.output)[0].regions for text in region.descriptions}
    assert "a beak that is red" in texts
    assert "'a beak that', 'a beak that'" in chain.detected.batches()[0][0]


def test_regions_that_came_with_an_image_stay(chain):
    region = {"box_xyxy": [1, 2, 3, 4], "description": "mine", "score": 0.2}
    lines = [{"image": "pictures/000.png", "caption": "c", "descriptions": ["tail"], "regions": [region, {"x": 1}]}]
    (chain.folder / "m.jsonl").write_text(json.dumps(lines[0]) + "\n{}\n")
    outcome = chain.run(chain.folder / "m.jsonl", mllm=None)
    (record,) = records(chain.output)
    assert [text for region in record.regions for text in region.descriptions] == ["mine", "tail"]
    assert outcome.report.counts["no image path"] == 1
    assert outcome.report.counts["box that is not four numbers"] == 1


def test_damaged_gone_and_changed_files_are_left_out(chain):
    (chain.pictures / "001.png").write_bytes(b"no picture")
    (chain.pictures / "002.png").write_bytes((chain.pictures / "002.png").read_bytes()[:40])
    chain.run()
    (chain.pictures / "003.png").unlink()
    table = "path\n" + "".join(f"pictures/{number:03}.png\n" for number in range(7))
    (chain.folder / "t.csv").write_text(table)
    outcome = chain.run(chain.folder / "t.csv")
    assert {**outcome.report.left_out, "002.png": ""} == {
        "pictures/001.png": "E_NOT_IMAGE",
        "pictures/002.png": outcome.report.left_out["pictures/002.png"],
        "pictures/003.png": "E_NOT_FOUND",
        "002.png": "",
    }
    assert outcome.report.records == 4


def test_a_file_that_changes_meanwhile_is_left_out_and_annotated_next_time(chain):
    def changing(request):
        Image.new("RGB", (40, 30), "red").save(chain.folder / "new.png")
        os.replace(chain.folder / "new.png", chain.pictures / "006.png")
        return answer(request)

    outcome = chain.run(write_one=changing)
    assert outcome.report.left_out == {"006.png": CHANGED}
    assert chain.run(write_one=lambda request: '{"caption": "red"}').report.records == 7


def test_images_beyond_the_limits_are_left_out(chain):
    outcome = chain.run(limits=ImageLimits(max_pixels=40 * 30 - 1))
    assert outcome.report.counts["image left out: E_BOMB"] == 7


def test_a_turned_photograph_has_boxes_of_its_displayed_pixels(chain):
    image = Image.fromarray(np.zeros((30, 90, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(chain.folder / "a.jpg", exif=exif)
    chain.run(chain.folder / "a.jpg", found=lambda image, text: Found(np.array([[0, 0, 200, 200]]), np.ones(1)))
    assert chain.lines()[0]["regions"][0]["box_xyxy"] == [0, 0, 30, 90]


def test_a_name_that_a_manifest_cannot_hold_is_left_out_of_it_and_not_of_shards(chain):
    os.rename(chain.pictures / "000.png", bytes(chain.pictures) + b"/\xff.png")
    assert chain.run().report.records == 6
    shards = chain.folder / "shards"
    assert chain.run(output=shards).report.records == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"most_boxes": 0}, "number of boxes is 0"),
        ({"detector_batch": 0}, "detector batch is 0"),
        ({"mllm_batch": -1}, "MLLM batch is -1"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_only_an_output_of_annotate_is_replaced(tmp_path):
    images = BareImages([])
    for output, inputs, message in (
        (tmp_path / "m.jsonl", [tmp_path / "m.jsonl"], "is the input"),
        (tmp_path / "m.jsonl", [], "was not written by annotate"),
        (tmp_path / "shards", [], "was not written by annotate"),
        (tmp_path / "folder.jsonl", [], "a manifest ends in"),
        (tmp_path / "new.json", [], "writes a manifest"),
    ):
        (tmp_path / "m.jsonl").touch()
        (tmp_path / "folder.jsonl").mkdir(exist_ok=True)
        (tmp_path / "shards").mkdir(exist_ok=True)
        (tmp_path / "shards" / "a.tar").touch()
        with pytest.raises(DataError, match=message):
            check_output(output, store_path(output), images, list(map(str, inputs)))
    store_path(tmp_path / "m.jsonl").touch()
    check_output(tmp_path / "m.jsonl", store_path(tmp_path / "m.jsonl"), images, [])
    check_output(tmp_path / "new", store_path(tmp_path / "new"), images, [])


def test_killed_and_given_again_it_ends_in_the_same_bytes(tmp_path):
    counts = kill_annotate.survive(tmp_path, kills=2, seed=1)
    assert (counts["killed at work"], counts["other outputs"], counts["too many calls"]) == (2, 0, 0)


def test_the_command_annotates_cut_outs_by_names_and_descriptions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut-outs").mkdir()
    for name in ("snowy-owl", "red_kite"):
        image = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
        image.paste((200, 0, 0, 255), (10, 5, 30, 35))
        image.save(tmp_path / "cut-outs" / f"{name}.png")
    (tmp_path / "d.json").write_text('{"snowy owl": ["white plumage"]}')
    arguments = ["annotate", "cut-outs", "--output", "a.jsonl", "--subjects", "file", "--detector", "mask"]
    code, out, _ = call(*arguments, "--descriptions", "d.json")
    assert code == 0
    assert "2 of 2 images annotated, 2 boxes" in out
    kite, owl = records(tmp_path / "a.jsonl", (40, 60))
    assert (kite.captions, kite.regions[0].descriptions) == (("red kite",), ("red kite",))
    assert (owl.regions[0].box_xyxy, owl.regions[0].descriptions) == ((10, 5, 30, 35), ("snowy owl", "white plumage"))
    assert "descriptions_file" in json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])["annotation"]
    with pytest.raises(DataError, match="is the input"):
        call("annotate", "a.jsonl", "--output", "a.jsonl", "--detector", "mask")
    (tmp_path / "cut-outs" / "torn.png").write_bytes(b"no picture")
    code, _, err = call("annotate", "cut-outs", "--output", "b.jsonl", "--detector", "mask")
    assert code == 1
    assert "left out: E_NOT_IMAGE: 1 image, such as torn.png" in err
    assert "2 images left out for want of a caption: give --mllm" in err


def test_the_command_asks_an_mllm_of_the_settings(tmp_path):
    write_pictures(tmp_path / "p", 1)
    arguments = ["annotate", tmp_path / "p", "--output", tmp_path / "a.jsonl", "--detector", "mask"]
    with pytest.raises(MllmUnavailable, match="no directory"):
        call(*arguments, "--mllm", "./gone")


def test_counts_of_reasons_are_those_of_all_images_also_when_resumed(chain):
    first, second = (chain.run(subjects="file", mllm=None, known={"000": ("a", "A.")}) for _ in range(2))
    assert first.report == second.report
    assert first.report.counts["repeated description"] == 1
