"""Corrections of a real run become exemplars and categories, and the folder is scored again."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from memory import Memory
from memory.remote import CALIBRATION
from recognizer.corrections.learn import with_exemplars
from recognizer.corrections.log import Correction, CorrectionLog, drawn_id
from recognizer.demo import DATA
from recognizer.errors import RecognizerError
from recognizer.exemplar_files import stored_exemplars
from recognizer.memory_settings import memory_identity, sealed
from tests.recognizer.commands import call

pytestmark = pytest.mark.usefixtures("encoders_loaded_once")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_memory, encoders_loaded_once):
    place = tmp_path_factory.mktemp("learn")
    shutil.copytree(demo_memory, place / "memory")
    photos = sorted((DATA / "photos").glob("*.jpg"))[:5]
    (place / "photos").mkdir()
    for photo in photos:
        Image.open(photo).resize((160, 120)).save(place / "photos" / photo.name)
        Image.open(photo).resize((150, 120)).save(place / "photos" / f"again {photo.name}")
    (place / "photos" / "broken.jpg").write_bytes(b"no image")
    assert run(place, "rows.jsonl", "--features", place / "f")[0] == 0
    return place


def run(place, output, *options):
    return call("run", place / "photos", "--memory", place / "memory", "--output", place / output, *options)


def learn(place):
    command = ["learn", place / "c.jsonl", "--memory", place / "memory", "--results", place / "rows.jsonl"]
    return call(*command, "--features", place / "f")


def rows_of(path):
    return {row["path"]: row for row in map(json.loads, path.read_text().splitlines())}


def test_corrections_are_learnt_and_nothing_is_encoded_but_texts(folder):
    before = rows_of(folder / "rows.jsonl")
    names = [name for name in before if not name.startswith("again") and name != "broken.jpg"]
    log = CorrectionLog(folder / "c.jsonl")
    said = [Correction(id=name, path=name, new=f"thing {name[:3]}", old=before[name]["label"]) for name in names[:4]]
    log.append([*said, Correction(id="u", path=names[4], verdict="unknown")])
    log.append([Correction(id="x", path="gone.jpg", new="a"), Correction(id="b", path="broken.jpg", new="a")])
    log.append([Correction(id="s", path="again " + names[4], verdict="skip")])
    opened = Memory.open(folder / "memory")
    known = opened.info().categories
    content = {"calibration": memory_identity(opened), "score": {"calibrated": True, "temperature": 0.08}}
    (opened.directory / CALIBRATION).write_text(sealed(yaml.safe_dump(content)))
    code, shown, notes = learn(folder)
    assert code == 0, notes
    assert f"is ignored: it was fitted on other tables ({known} categories; the memory now has {known + 4}" in notes
    assert "4 exemplars, 4 new categories; 0 images encoded" in shown
    assert "1 correction of images that are not in" in notes
    assert "such as gone.jpg" in notes
    after = rows_of(folder / "rows.learnt.jsonl")
    assert list(after) == list(before)
    for name in names[:4]:
        assert after[name]["label"] == after[f"again {name}"]["label"] == f"thing {name[:3]}"
    assert after["broken.jpg"] == before["broken.jpg"]
    info = json.loads((folder / "rows.learnt.jsonl.run.json").read_text())
    assert info["memory"]["digest"] == Memory.open(folder / "memory").digest

    # The results are those of a run over the memory that has learnt.
    assert run(folder, "fresh.jsonl")[0] == 0
    assert rows_of(folder / "fresh.jsonl") == after

    # Said otherwise later: the image is an exemplar of the other category alone.
    log.append([Correction(id="later", path=names[0], new="other thing", old="thing")])
    code, shown, notes = learn(folder)
    assert code == 0
    assert "rows.learnt-2.jsonl" in shown
    assert rows_of(folder / "rows.learnt.jsonl") == after  # the earlier results stay
    assert rows_of(folder / "rows.learnt-2.jsonl")[names[0]]["label"] == "other thing"
    vectors = Memory.open(folder / "memory").vectors
    owners = {c.id: c.name for c in vectors.categories}
    present = stored_exemplars(vectors)
    taught = dict(zip(present.references, (owners[i] for i in present.category_ids), strict=True))
    assert taught == {names[0]: "other thing", **{name: f"thing {name[:3]}" for name in names[1:4]}}


def test_without_stored_features_the_corrected_and_the_touched_are_scored_again(folder):
    before = rows_of(folder / "rows.jsonl")
    name = next(iter(before))
    (folder / "one.jsonl").write_text(json.dumps({"path": name, "new": "a new thing"}) + "\njunk\n")
    code, _, notes = call(
        *("learn", folder / "one.jsonl", "--memory", folder / "memory", "--results", folder / "rows.jsonl"),
        *("--output", folder / "one.out.jsonl"),
    )
    assert code == 0
    after = rows_of(folder / "one.out.jsonl")
    assert after[name]["label"] == "a new thing"
    assert "keep their earlier scores" in notes
    assert "left out: 1 line, the first of them line 2" in notes
    kept = [path for path in before if path != name]
    assert [after[path] for path in kept] == [before[path] for path in kept]


def test_annotations_of_label_studio_and_lines_of_a_table_are_learnt(folder):
    """Predictions go out, a person changes a choice and draws a box, and the memory learns both; so from a table."""
    rows = rows_of(folder / "rows.jsonl")
    chosen, drawn, accepted, lines = [name for name in rows if name.startswith("again")][:4]
    tasks_file = folder / "tasks.json"
    export = ["export-results", folder / "rows.jsonl", "--format", "labelstudio", "--output", tasks_file]
    assert call(*export, "--prefix", "/data/local-files/?d=")[0] == 0
    tasks = {task["data"]["path"]: task for task in json.loads(tasks_file.read_text())}
    for name in (chosen, accepted):
        tasks[name]["annotations"] = [{"id": 1, "result": tasks[name]["predictions"][0]["result"]}]
    (region,) = tasks[chosen]["annotations"][0]["result"]
    region["value"]["choices"] = ["picked thing"]
    value = {"x": 20, "y": 25, "width": 60, "height": 50, "rotation": 0, "rectanglelabels": ["drawn thing"]}
    box = {"type": "rectanglelabels", "original_width": 150, "original_height": 120, "value": value}
    tasks[drawn]["annotations"] = [{"id": 2, "result": [box]}]
    tasks_file.write_text(json.dumps([*tasks.values()]))
    known = Memory.open(folder / "memory").info().categories
    command = ["learn", tasks_file, "--memory", folder / "memory", "--results", folder / "rows.jsonl"]
    for again in (0, 2):  # a second time nothing is new
        code, shown, notes = call(*command, "--features", folder / "f")
        assert code == 0, notes
        assert f"3 exemplars, {2 - again} new categor" in shown
        assert "1 image encoded" in shown  # the crop
    assert Memory.open(folder / "memory").info().categories == known + 2

    (folder / "c.csv").write_text(
        f"path,label,x1,y1,x2,y2\n{lines},table thing,,,,\n{lines},cut thing,10,10,80.5,90\ngone.jpg,a,,,,\n"
    )
    code, shown, notes = call(*(*command[:1], folder / "c.csv", *command[2:]), "--features", folder / "f")
    assert code == 0, notes
    assert "2 exemplars, 2 new categories" in shown
    assert "left out: line 4: no image 'gone.jpg'" in notes
    vectors = Memory.open(folder / "memory").vectors
    present = stored_exemplars(vectors)
    owners = {c.id: c.name for c in vectors.categories}
    taught = {owners[i]: reference for i, reference in zip(present.category_ids, present.references, strict=True)}
    assert (taught["picked thing"], taught["table thing"]) == (chosen, lines)
    assert taught["drawn thing"].startswith(f"{drawn}#")
    assert taught["cut thing"].startswith(f"{lines}#")


def test_drawn_boxes_teach_without_features_and_measure_nothing(folder):
    """They had no label before, so accuracy on them says nothing; their image is scored again, whatever it shows."""
    name = next(iter(rows_of(folder / "rows.jsonl")))
    # Six that would be kept apart to measure on, were they rows.
    boxes = [(2.0 * n, 5.0, 2.0 * n + 60, 80.0) for n in (0, 5, 13, 14, 16, 18)]
    lines = [
        Correction(id=f"{n}", path=name, box=drawn_id(name, box), xyxy=box, new="drawn so").to_line()
        for n, box in enumerate(boxes)
    ]
    lines.append(Correction(id="gone", path="gone.jpg", box="b", xyxy=boxes[0], new="a").to_line())
    (folder / "drawn.jsonl").write_bytes(b"".join(lines))
    code, shown, notes = call(
        *("learn", folder / "drawn.jsonl", "--memory", folder / "memory", "--results", folder / "rows.jsonl"),
        *("--output", folder / "drawn.out.jsonl"),
    )
    assert code == 0, notes
    assert "6 exemplars, 1 new category; 6 images encoded" in shown
    assert "1 row scored again (1 encoded)" in shown
    assert "kept apart" not in shown
    assert "1 correction of images that are not in" in notes


def test_results_that_exist_are_not_replaced_and_nothing_is_learnt(folder):
    version = Memory.open(folder / "memory").version
    before = (folder / "rows.jsonl").read_bytes()
    for output, match in ((folder / "rows.jsonl", "exists"), (folder / "c.jsonl" / "rows.jsonl", "c.jsonl")):
        with pytest.raises((RecognizerError, OSError), match=match):
            call(
                *("learn", folder / "c.jsonl", "--memory", folder / "memory", "--results", folder / "rows.jsonl"),
                *("--output", output),
            )
    assert (folder / "rows.jsonl").read_bytes() == before
    assert Memory.open(folder / "memory").version == version


def test_corrections_without_a_category_teach_nothing(folder):
    (folder / "none.jsonl").write_bytes(Correction(id="1", path="broken.jpg", new="a").to_line())
    with pytest.raises(RecognizerError, match="nothing can be learnt"):
        call("learn", folder / "none.jsonl", "--memory", folder / "memory", "--results", folder / "rows.jsonl")


def test_exemplars_can_be_tried_without_storing_them(folder):
    vectors = Memory.open(folder / "memory").vectors
    present = stored_exemplars(vectors)
    again = with_exemplars(vectors, present)
    assert np.array_equal(again.exemplars, vectors.exemplars)
    assert list(again.exemplar_references) == list(vectors.exemplar_references)
    assert np.array_equal(again.exemplar_offsets, vectors.exemplar_offsets)
