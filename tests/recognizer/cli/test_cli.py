import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys

import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from memory import Memory
from memory.durable import file_sha256
from memory.remote import CALIBRATION
from recognizer import Recognizer
from recognizer.cli import main
from recognizer.cli.app import add_plugins
from recognizer.errors import RecognizerError
from recognizer.memory_settings import memory_identity, sealed
from recognizer.results import encode_row
from tests.forked import kill_after, start_command
from tests.recognizer.commands import call

LABELS = '{"tabby cat": ["striped fur", "whiskers"], "cup of coffee": ["a saucer"], "rocket launch": [], "=cmd()": []}'


@pytest.fixture(scope="module")
def world(tmp_path_factory, photos):
    """A label file, a memory built by the command, and a folder with good and bad images in two subfolders."""
    root = tmp_path_factory.mktemp("cli")
    (root / "labels.json").write_text(LABELS)
    code, out, _ = call("build", root / "labels.json", "--memory", root / "memory", "--precision", "fp32")
    assert code == 0
    assert "4 categories, 3 descriptions" in out
    for number, name in enumerate(("cat", "coffee", "rocket", "retina", "grass", "coins")):
        folder = root / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / f"{name}.jpg", folder / f"{number // 2}.jpg")
    (root / "images" / "a" / "broken.jpg").write_bytes(b"text")
    return root


def run_images(world, output, *more):
    return call("run", world / "images", "--memory", world / "memory", "--output", output, "--precision", "fp32", *more)


def test_a_broken_plugin_costs_only_its_own_commands(capsys, monkeypatch):
    def fine(app):
        app.command()(lambda: typer.echo("ran"))

    def breaks(app):
        raise RuntimeError("two\nlines")

    functions = {"fine": fine, "breaks": breaks}
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda plugin: functions[plugin.name])
    plugins = [importlib.metadata.EntryPoint(name, f"{name}:register", "g") for name in ("missing", "breaks", "fine")]
    partial = typer.Typer()
    add_plugins(partial, plugins)
    err = capsys.readouterr().err.splitlines()
    assert err == [
        "the commands of 'missing' (missing:register) are not available: 'missing'",
        "the commands of 'breaks' (breaks:register) are not available: two lines",
    ]
    assert CliRunner().invoke(partial).stdout == "ran\n"


def test_version():
    assert call("--version")[:2] == (0, f"{importlib.metadata.version('recognizer')}\n")


def test_importing_memory_loads_neither_torch_nor_the_database():
    code = "import sys, memory; assert not {'torch', 'lancedb', 'faiss'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_building_again_encodes_nothing_and_adding_only_what_is_new(world, tmp_path):
    shutil.copytree(world / "memory", tmp_path / "memory")
    _, out, _ = call("build", world / "labels.json", "--memory", tmp_path / "memory", "--precision", "fp32")
    assert "nothing to do" in out
    (tmp_path / "new.txt").write_text("galaxy\n")
    place = ("--memory", tmp_path / "memory", "--precision", "fp32")
    _, out, _ = call("add", tmp_path / "new.txt", *place)
    assert out.startswith(f"added 1 category; {tmp_path / 'memory'} now has 5 categories\ntexts: 1 encoded, ")
    (tmp_path / "more.json").write_text('{"galaxy": ["many stars"], "comet": []}')
    _, out, _ = call("add", tmp_path / "more.json", *place)
    assert out.startswith("added 1 category, merged 1 category that it had; ")
    assert "now has 6 categories\n" in out
    opened = Memory.open(tmp_path / "memory")
    content = {"calibration": memory_identity(opened), "score": {"calibrated": True}}
    (opened.directory / CALIBRATION).write_text(sealed(yaml.safe_dump(content)))
    _, out, err = call("remove", "comet", *place[:2])
    assert "removed 1 category; " in out
    ignored = "is ignored: it was fitted on other tables (6 categories; the memory now has 5"
    assert ignored in err
    assert ignored in call("add", tmp_path / "new.txt", *place)[2]
    code, out, _ = call("verify", "--memory", tmp_path / "memory")
    assert code == 0
    _, out, _ = call("remove", "galaxy", "--memory", tmp_path / "memory")
    assert "removed 1" in out
    _, out, _ = call("info", "--memory", tmp_path / "memory", "--json")
    assert json.loads(out)["categories"] == 4


@pytest.fixture
def tiny_clip(tmp_path, offer):
    """The name of a small CLIP, of which three tags are for QuickGELU."""
    sides = {"vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}}
    sides |= {"text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}
    (tmp_path / "tiny-clip.json").write_text(json.dumps({"embed_dim": 32, **sides}))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    usual = open_clip.get_pretrained_cfg("RN50", "openai")
    offer("tiny-clip", dict.fromkeys(("openai", "yfcc15m", "cc12m"), usual))
    return "tiny-clip"


def test_label_files_may_be_parquet(tmp_path):
    pq.write_table(pa.table({"name": ["owl", "hen"], "descriptions": [["big eyes"], None]}), tmp_path / "birds.parquet")
    pq.write_table(pa.table({"name": ["fox", "owl"], "synonyms": [["red fox"], []]}), tmp_path / "more.parquet")
    memory = ("--memory", tmp_path / "memory", "--precision", "fp32")
    build = ("build", tmp_path / "more.parquet", "--descriptions", tmp_path / "birds.parquet", *memory)
    assert "2 categories, such as 'fox', 'owl'; format: Parquet\n" in call(*build)[2]
    assert "nothing to do" in call(*build)[1]
    assert call("add", tmp_path / "birds.parquet", *memory)[1].startswith("added 1 category, merged 1 category")
    exported = map(json.loads, call("export", *memory[:2])[1].splitlines())
    shown = {c["name"]: ([d["text"] for d in c["descriptions"]], c.get("aliases")) for c in exported}
    assert shown == {"owl": (["big eyes"], None), "hen": ([], None), "fox": ([], ["red fox"])}


def test_building_again_keeps_the_encoder_and_says_what_goes(world, tiny_clip, tmp_path):
    memory = tmp_path / "memory"
    call("build", world / "labels.json", "--memory", memory, "--model", tiny_clip, "--pretrained", "random")
    (tmp_path / "fewer.txt").write_text("tabby cat\n")
    _, _, err = call("build", tmp_path / "fewer.txt", "--memory", memory)
    assert "removed, because the label file does not hold them: 3 categories" in err
    assert "encoded again" not in err
    assert json.loads(call("info", "--memory", memory, "--json")[1])["encoder"]["name"] == "tiny-clip/random"
    _, _, err = call("build", tmp_path / "fewer.txt", "--memory", memory, "--model", "starter", "--pretrained", "conse")
    assert "the memory was made by tiny-clip/random; every text is encoded again by starter" in err


def test_building_says_which_encoder_a_new_memory_gets(world, tmp_path):
    memory = ("--memory", tmp_path / "memory", "--precision", "fp32")
    _, _, err = call("build", world / "labels.json", *memory)
    assert "encoder: starter, for trying out" in err
    assert "better: the same command with --model base (ViT-B-16-SigLIP2-256/webli, 79.1 %" in err
    for more in ((), ("--model", "starter")):
        assert "encoder: " not in call("build", world / "labels.json", *memory, *more)[2]


def test_weights_from_a_file_are_explained_and_info_shows_their_settings(world, tiny_clip, tmp_path):
    network = open_clip.create_model(tiny_clip)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    memory = ("--memory", tmp_path / "memory")
    model = ("--model", tiny_clip, "--precision", "fp32", "--pretrained")
    _, _, err = call("build", world / "labels.json", *memory, *model, tmp_path / "weights.pt")
    assert "nothing says how images for weights.pt are prepared; assumed: mean 0.4815 0.4578 0.4082" in err
    assert "tags of tiny-clip that differ: openai, yfcc15m, cc12m (QuickGELU)" in err
    shown = call("info", *memory)[1]
    assert "defaults of tiny-clip" in shown
    assert "std 0.2686 0.2613 0.2758, resize shortest, bicubic, GELU\n" in shown
    _, out, err = call("build", world / "labels.json", *memory, *model, f"openai={tmp_path / 'weights.pt'}")
    assert "weights.pt: mean 0.4815 0.4578 0.4082, std 0.2686 0.2613 0.2758, resize shortest, bicubic, QuickGELU" in err
    assert "tags of" not in err
    assert "0 reused" in out  # QuickGELU makes it another encoder
    spec = json.loads(call("info", *memory, "--json")[1])["encoder"]["spec"]
    assert spec["settings"]["source"] == "tag openai"
    (tmp_path / "more.txt").write_text("galaxy\n")
    assert "1 encoded" in call("add", tmp_path / "more.txt", *memory, "--precision", "fp32")[1]


def test_models_lists_encoders_that_a_filter_names():
    code, out, err = call("models", "siglip2-256")
    assert code == 0
    rows = [line.split() for line in out.splitlines()[2:]]
    assert ["base", "ViT-B-16-SigLIP2-256", "webli", "256", "79.1"] in rows
    assert ["ViT-L-16-SigLIP2-256", "webli", "256"] in rows
    assert all("SigLIP2-256" in " ".join(row) for row in rows)
    assert "base (ViT-B-16-SigLIP2-256/webli" in err
    assert "Apache-2.0" in err
    assert call("models", "no-such-model")[0] == 2


def test_build_says_the_format_and_how_names_are_prompted(tmp_path):
    (tmp_path / "data.yaml").write_text("nc: 2\nnames: [AnnualCrop, forest]\n")
    (tmp_path / "templates.txt").write_text("lambda c: f'a {c}.',\nlambda c: f'the {c}.',\n")
    memory = ("--memory", tmp_path / "memory")
    _, _, err = call("build", tmp_path / "data.yaml", "--templates", tmp_path / "templates.txt", *memory)
    assert "2 categories, such as 'AnnualCrop', 'forest'; format: YOLO names" in err
    assert "prompted as words: 1 of 2 names, such as 'AnnualCrop' as 'annual crop'" in err
    assert "templates: 2, such as 'a {c}.', 'the {c}.'" in err
    (tmp_path / "sharks.csv").write_text('Label\n"great white shark, white shark"\n')
    code, _, err = call("add", tmp_path / "sharks.csv", *memory, "--name-column", "Label", "--aliases", "comma")
    assert (code, "such as 'great white shark'; format: CSV, names in the column 'Label'" in err) == (0, True)
    _, out, _ = call("info", *memory, "--json")
    assert json.loads(out)["prompted"] == {
        "AnnualCrop": ["annual crop"],
        "great white shark": ["great white shark", "white shark"],
    }
    _, out, _ = call("info", *memory)
    assert re.search(r"^prompted as words +2 names", out, re.MULTILINE)
    assert re.search(r"^AnnualCrop +annual crop$", out, re.MULTILINE)
    assert re.search(r"^great white shark +great white shark \| white shark$", out, re.MULTILINE)


def test_a_header_is_as_the_user_says(tmp_path):
    (tmp_path / "names.txt").write_text("species\nfox\nfox\n")
    memory = ("--memory", tmp_path / "memory")
    _, out, err = call("build", tmp_path / "names.txt", *memory, "--header", "yes")
    assert "1 category, 0 descriptions" in out
    assert "note: 1 repeated name, merged into one category each: 'fox' (line 2 and line 3)" in err
    assert "2 categories" in call("build", tmp_path / "names.txt", *memory, "--header", "no")[1]


def test_exemplars_go_with_their_head(world, tmp_path, photos):
    memory = tmp_path / "memory"
    (tmp_path / "shots.csv").write_text(f"path,label\n{photos / 'cat.jpg'},tabby cat\n{photos / 'cat.jpg'},nobody\n")
    _, _, err = call("build", world / "labels.json", "--memory", memory, "--exemplars", tmp_path / "shots.csv")
    assert "'nobody' is not a category" in err
    held = json.loads(call("info", "--memory", memory, "--json")[1])
    assert held["exemplars"] == 1
    assert held["settings"]["score"]["head"] == "proker"
    _, out, _ = call("info", "--memory", memory)
    assert re.search(r"^score\.head_beta +3\.0$", out, re.MULTILINE)
    _, out, _ = call("add", "--memory", memory, "--exemplars", tmp_path / "shots.csv")
    assert "added 0 exemplars, 0 images encoded" in out
    (tmp_path / "more.csv").write_text(f"path,label\n{photos / 'rocket.jpg'},tabby cat\n")
    assert "now has 2 exemplars" in call("add", "--memory", memory, "--exemplars", tmp_path / "more.csv")[1]
    assert "2 exemplars; 0 contradicted" in call("verify", "--exemplars", "--memory", memory)[1]
    _, out, _ = call("remove", photos / "rocket.jpg", "--exemplars", "--memory", memory)
    assert "removed 1 exemplar;" in out
    fewer = shutil.copytree(memory, tmp_path / "fewer")
    call("remove", "tabby cat", "--memory", fewer)
    assert "score" not in json.loads(call("info", "--memory", fewer, "--json")[1])["settings"]
    with pytest.raises(RecognizerError, match="nothing to add"):
        call("add", "--memory", memory)
    assert "{}" not in out.replace("a photo of a {}.", "")
    _, _, err = call("build", world / "labels.json", "--memory", memory)
    assert "1 exemplar of the memory dropped" in err
    held = json.loads(call("info", "--memory", memory, "--json")[1])
    assert held["exemplars"] == 0
    assert "score" not in held["settings"]


def test_same_names_in_another_folder_are_not_taken_for_done(world, tmp_path, photos):
    from recognizer.results import ResumeRefused

    for folder, name in (("a", "cat"), ("b", "coffee")):
        (tmp_path / folder).mkdir()
        shutil.copy(photos / f"{name}.jpg", tmp_path / folder / "x.jpg")
    again = ["--memory", world / "memory", "--output", tmp_path / "r.jsonl"]
    call("run", tmp_path / "a", *again)
    with pytest.raises(ResumeRefused, match="input_root"):
        call("run", tmp_path / "b", *again)


def test_export_can_be_built_from(world, tmp_path):
    _, out, _ = call("export", "--memory", world / "memory")
    (tmp_path / "labels.jsonl").write_text(out)
    call("build", tmp_path / "labels.jsonl", "--memory", tmp_path / "memory", "--precision", "fp32")
    assert call("export", "--memory", tmp_path / "memory")[1] == out


def test_run_gives_one_row_per_image_in_order_and_counts_failures(world, tmp_path):
    code, _, err = run_images(world, tmp_path / "r.jsonl", "--top-k", "2")
    assert code == 0
    assert "6 images recognised, 1 failed (14.3%: 1 E_NOT_IMAGE)" in err
    assert "WARNING" not in err
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == [
        "a/0.jpg",
        "a/1.jpg",
        "a/2.jpg",
        "a/broken.jpg",
        "b/0.jpg",
        "b/1.jpg",
        "b/2.jpg",
    ]
    assert [row["status"] for row in rows].count("error") == 1
    assert rows[0]["label"] == "tabby cat"
    assert rows[4]["label"] == "cup of coffee"
    assert len(rows[0]["candidates"]) == 2
    made_by = json.loads((tmp_path / "r.jsonl.run.json").read_text())
    assert made_by["state"] == "finished"
    assert (tmp_path / "r.jsonl.timing.jsonl").exists()


def test_run_ends_with_a_count_of_what_it_left_out(world, photos, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(photos / "cat.jpg", images / "cat")
    (images / "film.mp4").touch()
    (images / "gone.jpg").symlink_to("nothing")
    (images / "notes.txt").write_text("a note")
    place = ("--memory", world / "memory", "--precision", "fp32", "--output")
    code, _, err = call("run", images, *place, tmp_path / "r.jsonl")
    assert code == 0
    assert "1 image recognised, 0 failed; results" in err
    counted, remedy = err.strip().split("\n")[-2:]
    assert counted == "left out: 1 video, 1 link that leads nowhere, 1 .txt"
    assert "ffmpeg" in remedy
    (images / "cat").unlink()
    with pytest.raises(RecognizerError, match=r"no images in .*; left out: 1 video, 1 link .*, 1 \.txt"):
        call("run", images, *place, tmp_path / "none.jsonl")


def test_run_writes_the_row_that_recognize_returns(world, photos, tmp_path):
    (tmp_path / "half.jpg").write_bytes((photos / "cat.jpg").read_bytes()[:9000])
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x14ftypisom\0\0\0\0isom")
    (tmp_path / "gone.jpg").symlink_to("nothing")
    recognizer = Recognizer.open(world / "memory", device="cpu", precision="fp32")
    for file in (photos / "cat.jpg", tmp_path / "half.jpg", tmp_path / "a.mp4", tmp_path / "gone.jpg"):
        code, out, _ = call("run", file, "--memory", world / "memory", "--output", "-", "--precision", "fp32",
                            "--device", "cpu", "--set", "run.max_failed=1")  # fmt: skip
        assert code == 0
        assert out.encode() == encode_row(recognizer.recognize([file])[0])


def test_strict_run_with_a_failure_exits_with_1(world, tmp_path):
    assert run_images(world, tmp_path / "r.jsonl", "--strict")[0] == 1


@pytest.mark.parametrize(
    ("bad", "setting", "code"), [(3, 0.5, 1), (2, 0.5, 0), (2, 0.4, 1), (4, 0.99, 1), (4, 1, 0), (0, 0, 0)]
)
def test_a_run_of_which_too_much_fails_exits_with_1_and_says_the_share(world, photos, tmp_path, bad, setting, code):
    (tmp_path / "images").mkdir()
    for number in range(4):
        shutil.copy(photos / "cat.jpg", tmp_path / "images" / f"{number}.jpg")
        if number < bad:
            (tmp_path / "images" / f"{number}.jpg").write_bytes(b"")
    place = ("--memory", world / "memory", "--output", tmp_path / "r.jsonl", "--precision", "fp32")
    ended, _, err = call("run", tmp_path / "images", *place, "--set", f"run.max_failed={setting}")
    assert ended == code
    assert not bad or f"{bad} failed ({bad * 25}.0%: {bad} E_EMPTY)" in err
    warning = f"WARNING: {bad} of 4 images failed, more than the share of {setting} that run.max_failed accepts"
    assert (warning in err) == (code == 1)


def test_a_run_is_not_resumed_over_another_memory_of_the_same_version(world, tmp_path):
    from recognizer.results import ResumeRefused

    for name, label in (("one", "tabby cat"), ("other", "black cat")):
        (tmp_path / f"{name}.txt").write_text(f"{label}\ncup of coffee\n")
        call("build", tmp_path / f"{name}.txt", "--memory", tmp_path / name, "--precision", "fp32")
    place = ("--output", tmp_path / "r.jsonl", "--precision", "fp32")
    call("run", world / "images", "--memory", tmp_path / "one", *place)
    before = (tmp_path / "r.jsonl").read_bytes()
    with pytest.raises(ResumeRefused, match=r"settings: the memory holds other rows .*--overwrite"):  # on one line
        call("run", world / "images", "--memory", tmp_path / "other", *place)
    (tmp_path / "one").rename(tmp_path / "moved")
    assert call("run", world / "images", "--memory", tmp_path / "moved", *place)[0] == 0
    assert (tmp_path / "r.jsonl").read_bytes() == before


def test_a_picture_that_is_replaced_under_its_name_is_recognised_again(world, photos, tmp_path):
    shutil.copytree(world / "images", tmp_path / "images")
    again = ["--memory", world / "memory", "--batch-size", "2", "--precision", "fp32"]
    call("run", tmp_path / "images", "--output", tmp_path / "r.jsonl", *again)
    shutil.copy(photos / "rocket.jpg", tmp_path / "images" / "a" / "0.jpg")
    _, _, err = call("run", tmp_path / "images", "--output", tmp_path / "r.jsonl", *again)
    assert "1 image (a/0.jpg) changed since the earlier run; done again" in err
    assert "6 of 7 images are already done" in err
    call("run", tmp_path / "images", "--output", tmp_path / "fresh" / "r.jsonl", *again)
    assert (tmp_path / "r.jsonl").read_bytes() == (tmp_path / "fresh" / "r.jsonl").read_bytes()
    lines = (tmp_path / "r.jsonl.images.jsonl").read_text().splitlines()
    stamp = next(entry["image"] for entry in map(json.loads, lines) if entry["path"] == "a/0.jpg")
    status = os.stat(tmp_path / "images" / "a" / "0.jpg")
    assert stamp == [status.st_size, status.st_mtime_ns, file_sha256(photos / "rocket.jpg")]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_folder_that_grows_and_shrinks_has_the_results_of_a_fresh_run(world, photos, tmp_path, suffix):
    images, output = tmp_path / "images", tmp_path / f"r.{suffix}"
    shutil.copytree(world / "images", images)

    def run(output, *more):
        place = ("--memory", world / "memory", "--output", output, "--precision", "fp32")
        return call("run", images, *place, *more)[2]

    run(output, "--batch-size", "4")
    shutil.copy(photos / "rocket.jpg", images / "a" / "00.jpg")
    shutil.copy(photos / "coins.jpg", images / "0.jpg")
    (images / "a" / "0.jpg").unlink()
    kept = run(output, "--keep-missing")
    assert "no longer among the images: 1 image (a/0.jpg); earlier rows are kept at the end" in kept
    assert "6 of 8 images are already done" in kept
    assert "8 images recognised, 1 failed" in kept
    said = run(output)
    assert "no longer among the images: 1 image (a/0.jpg); earlier rows are dropped (--keep-missing keeps them)" in said
    assert "8 of 8 images are already done" in said
    assert "7 images recognised, 1 failed" in said
    run(tmp_path / "fresh" / output.name, "--batch-size", "3")
    assert output.read_bytes() == (tmp_path / "fresh" / output.name).read_bytes()
    said = run(output, "--exclude", "a", "--exclude", "0.*")
    assert said.splitlines()[-1].startswith("left out: 2 excluded files, 1 excluded folder")


def test_image_that_took_too_long_can_have_more_time(world, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "comments.ppm").write_bytes(b"P6\n" + b"#\n" * 2**23 + b"1 1\n255\nabc")
    command = ["run", tmp_path / "images", "--memory", world / "memory", "--output", tmp_path / "r.jsonl"]
    assert "1 E_TIMEOUT" in call(*command, "--set", "images.max_seconds=0.5")[2]
    assert "1 image recognised, 0 failed" in call(*command, "--retry-errors", "--set", "images.max_seconds=120")[2]


def test_rows_on_stdout_are_nothing_but_rows(world):
    _, out, err = run_images(world, "-")
    assert len([json.loads(line) for line in out.splitlines()]) == 7
    assert "; results on stdout" in err


def test_csv_and_parquet_hold_the_same_rows_as_jsonl(world, tmp_path):
    import csv

    import pyarrow.parquet as pq

    for suffix in ("jsonl", "csv", "parquet"):
        run_images(world, tmp_path / suffix / f"r.{suffix}", "--top-k", "1")
    with (tmp_path / "csv" / "r.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    rows = [json.loads(line) for line in (tmp_path / "jsonl" / "r.jsonl").read_text().splitlines()]
    assert [row["path"] for row in table] == [row["path"] for row in rows]
    assert not any(cell.startswith("=") for row in table for cell in row.values())
    assert pq.read_table(tmp_path / "parquet" / "r.parquet").num_rows == 7


def test_run_under_other_settings_is_refused(world, tmp_path):
    from recognizer.results import ResumeRefused

    run_images(world, tmp_path / "r.jsonl")
    with pytest.raises(ResumeRefused, match="top_k"):
        run_images(world, tmp_path / "r.jsonl", "--top-k", "3")
    run_images(world, tmp_path / "r.jsonl", "--top-k", "3", "--overwrite")


def test_retried_errors_leave_the_rows_of_an_untroubled_run(world, tmp_path):
    shutil.copytree(world / "images", tmp_path / "images")
    again = ["--memory", world / "memory", "--batch-size", "2", "--precision", "fp32"]
    call("run", tmp_path / "images", "--output", tmp_path / "r.jsonl", *again)
    shutil.copy(tmp_path / "images" / "a" / "0.jpg", tmp_path / "images" / "a" / "broken.jpg")
    call("run", tmp_path / "images", "--output", tmp_path / "r.jsonl", "--retry-errors", *again)
    call("run", tmp_path / "images", "--output", tmp_path / "fresh" / "r.jsonl", *again)
    assert (tmp_path / "r.jsonl").read_bytes() == (tmp_path / "fresh" / "r.jsonl").read_bytes()


def test_why_compares_and_draws(world, photos, tmp_path):
    from PIL import Image

    code, out, _ = call("why", photos / "cat.jpg", "--memory", world / "memory", "--output", tmp_path / "why.png")
    assert code == 0
    assert "tabby cat" in out.splitlines()[0]
    assert "difference" in out
    with pytest.raises(Exception, match=r"nope\.jpg cannot be used: E_NOT_FOUND"):
        call("why", tmp_path / "nope.jpg", "--memory", world / "memory")
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.width >= 400


def test_eval_prints_a_table_and_writes_json(world, photos, tmp_path):
    table = tmp_path / "set.csv"
    table.write_text(f"path,label\n{photos / 'cat.jpg'},tabby cat\n{photos / 'coffee.jpg'},Cup_of_Coffee\n")
    code, out, _ = call("eval", table, "--memory", world / "memory", "--json", tmp_path / "e.json")
    assert code == 0
    assert "shuffled" in out
    assert json.loads((tmp_path / "e.json").read_text())["rows"]["names"]["top1"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "{empty}", "--memory", "{new}"], "empty.txt"),
        (["info", "--memory", "{new}"], "new"),
        (["run", "{new}", "--memory", "{memory}", "--output", "{new}.jsonl"], "new"),
        (["run", "{images}", "--memory", "{memory}", "--output", "{file}/r.jsonl"], "--output"),
        (["run", "{bare}", "--memory", "{memory}", "--output", "{new}.jsonl"], "no images in"),
        (["run", "{images}", "--memory", "{memory}", "--output", "-", "--set", "run.topk=3"], "unknown setting"),
        (["build", "{labels}", "--memory", "{new}", "--model", "no-such-model"], "no-such-model"),
        (["build", "{labels}", "--memory", "{new}", "--templates", "{empty}"], "template"),
        (["build", "{labels}", "--memory", "{new}", "--templates", "{picture}"], "no text in UTF-8; give a file"),
        (["build", "{labels}", "--memory", "{new}", "--key", "group"], "group"),
        (["run", "{labels}", "--memory", "{memory}", "--output", "{new}.jsonl"], "labels.json is no image; give a"),
        (["run", "{images}", "--memory", "{memory}", "--output", "-", "--only", "unicorn"], "The memory has, for"),
        (["run", "{images}", "--memory", "{memory}", "--output", "-", "--precision", "98"], "a number below 1"),
        (["run", "{images}", "--memory", "{memory}", "--output", "-", "--config", "{new}"], "new: No such file or"),
        (["eval", "{images}", "--memory", "{memory}", "--json", "{file}/e.json"], "cannot be written"),
        (["eval", "{images}", "--memory", "{memory}", "--per-class", "/proc/e.csv"], "cannot be written"),
        (["eval", "{labels}", "--memory", "{memory}"], "Labelled images are FOLDER/LABEL/IMAGE"),
        (["eval", "{strange}", "--memory", "{memory}"], "Give images of its categories, or build a memory"),
        (["build", "{labels}", "--memory", "s3:/bucket/birds"], "write s3://bucket/birds"),
        (["export", "--memory", "{memory}", "--output", "{file}/x"], "file/x"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(world, tmp_path, capsys, monkeypatch, arguments, message):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "bare").mkdir()
    (tmp_path / "strange" / "unicorn").mkdir(parents=True)
    (tmp_path / "strange" / "unicorn" / "a.jpg").write_bytes(b"")
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    places = {
        "empty": tmp_path / "empty.txt",
        "file": tmp_path / "file",
        "bare": tmp_path / "bare",
        "picture": tmp_path / "picture.jpg",
        "strange": tmp_path / "strange",
        "new": tmp_path / "new",
        "memory": world / "memory",
        "images": world / "images",
        "labels": world / "labels.json",
    }
    monkeypatch.setattr(sys, "argv", ["recognizer", *(a.format(**places) for a in arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert "error: " in err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--top-k", "many", "'many': give a whole number."),
        ("--min-confidence", "high", "'high': give a number."),
        ("--format", "xml", "'xml' is not one of 'jsonl', 'csv', 'parquet'."),
        ("--format", "JSON", "'JSON' is not one of 'jsonl', 'csv', 'parquet'. Did you mean 'jsonl'?"),
    ],
)
def test_a_value_that_an_option_does_not_take_is_named_with_what_to_give(tmp_path, option, value, said):
    code, _, err = call("run", tmp_path, "--memory", tmp_path, "--output", "r.jsonl", option, value)
    assert code == 2
    words = " ".join(err.replace("│", " ").split())
    assert f"Invalid value for '{option}': {said}" in words
    assert ("Did you mean" in words) == ("Did you mean" in said)


EVIL = "\x1b]0;title\x07\x1b[2J\r\nerror: all is well\u202e"


def test_hostile_names_reach_the_terminal_escaped(world, tmp_path, photos, capsys, monkeypatch):
    images, labels = tmp_path / "images", tmp_path / f"{EVIL}.json"
    for name in ("tabby cat", f"no{EVIL}"):
        (images / name).mkdir(parents=True)
        shutil.copy(photos / "cat.jpg", images / name / f"cat{EVIL}.jpg")
    (images / f"broken{EVIL}.jpg").write_bytes(b"text")
    (images / f"link{EVIL}").symlink_to(photos)
    labels.write_text(json.dumps({f"cat{EVIL}": [f"fur{EVIL}"], "dog": []}))
    evil, memory = tmp_path / "memory", world / "memory"  # Lance takes no escape sequences in a path
    plan = [
        (0, ["build", labels, "--memory", evil, "--precision", "fp32"]),
        (0, ["info", "--memory", evil]),
        (0, ["info", "--memory", evil, "--json"]),
        (0, ["verify", "--memory", evil]),
        (0, ["remove", "dog", "--memory", evil]),
        (2, ["remove", f"no{EVIL}", "--memory", evil]),
        (2, ["build", tmp_path / f"missing{EVIL}.txt", "--memory", evil]),
        (2, ["info", "--memory", tmp_path / f"missing{EVIL}"]),
        (2, ["info", "--memory", f"missing{EVIL}" + "x" * 100_000]),
        (0, ["run", images, "--memory", evil, "--output", tmp_path / f"r{EVIL}.jsonl", "--precision", "fp32"]),
        (2, ["run", images, "--memory", evil, "--output", "-", "--set", f"run.{EVIL}=1"]),
        (2, ["run", images, "--memory", evil, "--output", "-", "--config", tmp_path / f"no{EVIL}.yaml"]),
        (0, ["why", images / "tabby cat" / f"cat{EVIL}.jpg", "--memory", evil, "--output", tmp_path / f"{EVIL}.png"]),
        (2, ["why", images / f"broken{EVIL}.jpg", "--memory", evil]),
        (0, ["eval", images, "--memory", memory, "--precision", "fp32"]),
    ]
    shown = ""
    for expected, arguments in plan:
        monkeypatch.setattr(sys, "argv", ["recognizer", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        assert (stopped.value.code or 0) == expected, captured.err
        bars_removed = captured.err.replace("\r", "\n")
        for line in (captured.out + bars_removed).split("\n"):
            assert line.isprintable(), line
            assert not line.startswith("error: all is well")
            assert len(line) <= 2000
        shown += captured.out + captured.err
    assert r"left out: " in shown
    assert r"\x1b[2J\r\nerror: all is well\u202e" in shown


def test_underscores_in_options_are_accepted(world, tmp_path):
    code, _, _ = call(
        "run", world / "images", "--memory", world / "memory", "--output", tmp_path / "r.jsonl", "--top_k", "1"
    )
    assert code == 0


def test_a_killed_run_resumes_to_the_same_bytes(demo_memory, photos, tmp_path):
    (tmp_path / "images").mkdir()
    for photo in sorted(photos.glob("*.jpg")):
        shutil.copy(photo, tmp_path / "images")
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no picture")
    whole, killed = tmp_path / "whole" / "r.jsonl", tmp_path / "killed" / "r.jsonl"
    command = ["run", tmp_path / "images", "--memory", demo_memory, "--batch-size", 2, "--device", "cpu"]
    command += ["--precision", "fp32", "--output"]
    images = len(list((tmp_path / "images").iterdir()))
    assert 4 <= kill_after(start_command(*command, killed), killed, lines=4) < images
    for output in (whole, killed):
        assert call(*command, output)[0] == 0
    assert killed.read_bytes() == whole.read_bytes()
