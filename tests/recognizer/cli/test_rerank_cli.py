"""Reranking by the command line: the real starter encoder, the tiny model that sees, and servers that fail."""

import json
import os
import random
import re
import shutil
import signal
import sys
from dataclasses import replace

import pytest
import yaml
from PIL import Image

from memory import Memory
from memory.manifest import read_manifest, write_manifest
from recognizer.cli import main
from recognizer.errors import RecognizerError
from recognizer.memory_settings import memory_identity, sealed
from recognizer.results.writer import ResultWriter
from recognizer.settings import SettingsError
from rerank.cache import CacheFileRefused
from tests.forked import kill_after, start_command
from tests.recognizer.commands import call
from tests.recognizer.report.runs import write_shards
from tests.rerank.fake_server import FAULTS, Behaviour, FakeServer, image_of, seen_number, text_of
from tests.rerank.fake_server import picture as grey_picture
from tests.rerank.scripted import options
from tests.rerank.tiny_mllm.pictures import FILES, MODEL, NAMES, PHOTOS, augmented

PER_NAME = 4
IMAGES = PER_NAME * len(NAMES)
LOOKALIKES = ("dog", "planet", "tea", "wall", "moon", "money", "hay", "eyeball", "missile", "watch")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A memory of twenty names of which the tiny model knows ten, and four changed photographs of each of the ten."""
    root = tmp_path_factory.mktemp("rerank")
    (root / "labels.txt").write_text("\n".join([*NAMES, *LOOKALIKES]))
    assert call("build", root / "labels.txt", "--memory", root / "memory", "--precision", "fp32")[0] == 0
    rng = random.Random(3)
    for name in NAMES:
        folder = root / "images" / name
        folder.mkdir(parents=True)
        with Image.open(PHOTOS / FILES[name]) as photo:
            for number in range(PER_NAME):
                augmented(photo.convert("RGB"), rng).save(folder / f"{number}.png")
    return root


def run(world, output, *more, images="images"):
    memory = ("--memory", world / "memory", "--precision", "fp32")
    return call("run", world / images, *memory, "--output", output, "--set", "run.batch_size=8", *more)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def right(rows):
    return sum(row["path"].split("/")[0] == row["label"] for row in rows) / len(rows)


TINY = ("--rerank-model", MODEL, "--set", "rerank.dtype=float32", "--set", "rerank.weight=3")


@pytest.fixture(scope="module")
def plain(world):
    """Results of the whole folder without reranking."""
    assert run(world, world / "plain.jsonl")[0] == 0
    return world / "plain.jsonl"


@pytest.fixture(scope="module")
def direct(world):
    """Results of the whole folder, reranked in the same run; the answers stay in a cache of their own."""
    cache = ("--set", f"rerank.cache={world / 'answers.sqlite'}")
    code, out, err = run(world, world / "direct.jsonl", "--rerank", "always", *TINY, *cache)
    assert (code, out) == (0, "")
    assert f"rerank: {IMAGES} images asked, 0 cached, 0 skipped, 0 failed; {5 * IMAGES} requests, " in err
    assert re.search(rf"\d+\.\d s, \d+ prompt and {5 * IMAGES} generated tokens", err)
    return world / "direct.jsonl"


@pytest.fixture
def answered(world, direct, monkeypatch):
    """The default cache holds the answers of `direct`."""
    (world / "cache" / "recognizer").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(world / "answers.sqlite", world / "cache" / "recognizer" / "rerank.sqlite")
    monkeypatch.setenv("XDG_CACHE_HOME", str(world / "cache"))


def test_the_mllm_puts_right_what_retrieval_got_wrong_and_the_second_run_asks_nothing(
    world, plain, direct, answered, tmp_path
):
    second = tmp_path / "second.jsonl"
    before, after = rows_of(plain), rows_of(direct)
    names = [{candidate["category"] for candidate in row["candidates"]} for row in before]
    reachable = sum(row["path"].split("/")[0] in found for row, found in zip(before, names, strict=True)) / IMAGES
    assert right(before) < reachable - 0.1  # there is something to put right
    assert right(after) >= reachable - 0.05
    for old, new in zip(before, after, strict=True):
        assert {c["category"] for c in new["candidates"]} == {c["category"] for c in old["candidates"]}
        assert new["rerank"]["status"] == "ok"
        assert [old["candidates"][place]["category"] for place in new["rerank"]["order"]] == [
            c["category"] for c in new["candidates"]
        ]
        assert sum(c["confidence"] for c in new["candidates"]) == pytest.approx(
            sum(c["confidence"] for c in old["candidates"]), abs=1e-4
        )
    _, _, err = run(world, second, "--rerank", "always", *TINY)
    assert f"0 images asked, {IMAGES} cached" in err
    assert "0 requests" in err
    assert second.read_bytes() == direct.read_bytes()


def test_killed_and_resumed_reranking_gives_the_same_bytes_and_asks_little_twice(world, tmp_path):
    memory = ("--memory", str(world / "memory"), "--device", "cpu", "--precision", "fp32", "--set", "run.batch_size=2")
    asked = ("--rerank", "always", *map(str, TINY), "--set", "rerank.rotations=1", "--set", "rerank.device=cpu")
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    folders = [str(world / "images" / name) for name in NAMES[:3]]
    here = ["run", *folders, *memory, *asked]
    call(*here, "--output", whole, "--set", f"rerank.cache={tmp_path / 'other.sqlite'}")
    done = kill_after(start_command(*here, "--output", killed), killed, lines=2)
    assert 2 <= done < 3 * PER_NAME
    _, _, err = call(*here, "--output", killed)
    again = int(re.search(r"rerank: (\d+) images asked", err)[1])
    assert again <= 3 * PER_NAME - done
    assert killed.read_bytes() == whole.read_bytes()


def test_auto_asks_where_retrieval_is_unsure(world, tmp_path):
    output = tmp_path / "auto.jsonl"
    _, _, err = run(world, output, "--rerank", "auto", *TINY, "--set", "rerank.margin=0.05")
    rows = rows_of(output)
    skipped = [row for row in rows if row["rerank"]["status"] == "skipped: confident"]
    assert 0 < len(skipped) < IMAGES
    assert all(r["candidates"][0]["confidence"] - r["candidates"][1]["confidence"] >= 0.05 for r in skipped)
    assert f"{IMAGES - len(skipped)} images asked, 0 cached, {len(skipped)} skipped" in err
    assert "margin of `auto` is a guess" in err


def test_results_are_reranked_without_encoding(plain, direct, answered, tmp_path, monkeypatch):
    later = tmp_path / "later.jsonl"
    monkeypatch.setattr("recognizer.encoder.Encoder.from_spec", lambda *a, **k: pytest.fail("encoded again"))
    code, _, err = call("rerank", plain, "--output", later, *TINY)
    assert code == 0
    assert f"0 images asked, {IMAGES} cached" in err  # the same questions as those of the run
    for one, other in zip(rows_of(direct), rows_of(later), strict=True):
        assert one["label"] == other["label"]
        assert one["rerank"] == other["rerank"]
        assert one["confidence"] == pytest.approx(other["confidence"], rel=1e-4)
    folder = write_shards(tmp_path / "rows", plain)
    assert call("rerank", folder, "--output", tmp_path / "folder.jsonl", *TINY)[0] == 0
    assert (tmp_path / "folder.jsonl").read_bytes() == later.read_bytes()
    with pytest.raises(RecognizerError, match="cannot be its own output"):
        call("rerank", folder, "--output", folder / "new.jsonl", *TINY)
    code, _, err = call("rerank", later, "--output", tmp_path / "again.jsonl", *TINY)
    assert f"already reranked, and unchanged: {IMAGES} rows" in err
    assert [r["label"] for r in rows_of(tmp_path / "again.jsonl")] == [r["label"] for r in rows_of(later)]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("plain.csv", "only a part of the evidence"),
        ("other.jsonl", "holds no results"),
        ("lone.jsonl", "no run.json"),
        ("renamed.jsonl", r"renamed\.jsonl\.run\.json says that it belongs to another output than renamed\.jsonl"),
    ],
)
def test_what_cannot_be_reranked_is_said_first(world, tmp_path, results, message):
    run(world, tmp_path / "plain.jsonl", images="images/cat")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "lone.jsonl").write_bytes((tmp_path / "plain.jsonl").read_bytes())
    for ending in ("", ".run.json"):
        shutil.copy(tmp_path / f"plain.jsonl{ending}", tmp_path / "sub" / f"renamed.jsonl{ending}")
    (tmp_path / "sub" / "other.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "sub" / "plain.csv").write_text("a,b\n")
    with pytest.raises(Exception, match=message):
        call("rerank", tmp_path / "sub" / results, "--output", tmp_path / "x.jsonl", *TINY)


def test_damaged_or_shortened_results_are_not_reranked(world, tmp_path):
    plain = tmp_path / "plain.jsonl"
    run(world, plain, images="images/cat")
    whole = plain.read_bytes()
    at = whole.index(b'"score":0.') + len(b'"score":0.')
    plain.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(Exception, match=r"damaged or missing: 1 row; repeat its run"):
        call("rerank", plain, "--output", tmp_path / "x.jsonl", *TINY)
    plain.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(Exception, match=r"damaged or missing: 1 row; repeat its run"):
        call("rerank", plain, "--output", tmp_path / "x.jsonl", *TINY)
    (tmp_path / "plain.jsonl.images.jsonl").unlink()  # as an earlier release leaves it
    with pytest.raises(Exception, match=f"has {PER_NAME - 1} rows for the {PER_NAME} images"):
        call("rerank", plain, "--output", tmp_path / "x.jsonl", *TINY)
    run(world, plain, images="images/cat")
    assert plain.read_bytes() == whole


def test_a_rerank_of_other_results_is_not_resumed(world, tmp_path):
    plain, output = tmp_path / "plain.jsonl", tmp_path / "x.jsonl"
    run(world, plain, images="images/cat")
    call("rerank", plain, "--output", output, *TINY)
    run(world, plain, "--top-k", "3", "--overwrite", images="images/cat")
    with pytest.raises(Exception, match=r"run\.top_k: was 5, is 3"):
        call("rerank", plain, "--output", output, *TINY)


def test_a_rerank_of_results_that_have_grown_asks_about_the_new_rows(world, tmp_path):
    images, plain, output = tmp_path / "images", tmp_path / "plain.jsonl", tmp_path / "x.jsonl"
    shutil.copytree(world / "images" / "cat", images)
    run(world, plain, images=images)
    call("rerank", plain, "--output", output, *TINY)
    shutil.copy(world / "images" / "coins" / "0.png", images / "00.png")
    (images / "0.png").unlink()
    run(world, plain, images=images)
    _, _, err = call("rerank", plain, "--output", output, *TINY)
    assert f"{PER_NAME - 1} of {PER_NAME} images are already done" in err
    assert "1 images asked, 0 cached" in err
    call("rerank", plain, "--output", tmp_path / "fresh.jsonl", *TINY)
    assert output.read_bytes() == (tmp_path / "fresh.jsonl").read_bytes()


def test_what_is_done_again_in_a_finished_run_is_reranked_too(world, tmp_path):
    output = tmp_path / "x.jsonl"
    asked = ("--rerank", "always", *TINY)
    run(world, output, *asked, images="images/cat")
    whole = output.read_bytes()
    output.write_bytes(whole.replace(b'"rerank"', b'"rerunk"', 1))
    _, _, err = run(world, output, *asked, images="images/cat")
    assert f"{output}: damaged: 1 row; done again" in err
    assert output.read_bytes() == whole
    assert "images asked" not in run(world, output, *asked, images="images/cat")[2]


def test_an_address_with_a_password_is_refused_before_it_is_written_anywhere(world, tmp_path):
    output = tmp_path / "x.jsonl"
    with pytest.raises(Exception, match="must have no password"):
        run(world, output, "--rerank", "always", "--rerank-model", "http://me:hunter2@127.0.0.1/v1")
    assert not list(tmp_path.glob("*.json*"))


def test_a_mistyped_model_does_not_stand_in_the_way_of_the_right_one(world, tmp_path):
    output = tmp_path / "x.jsonl"
    with pytest.raises(Exception, match="cannot load"):
        run(world, output, "--rerank", "always", "--rerank-model", tmp_path, images="images/cat")
    assert run(world, output, "--rerank", "always", *TINY, images="images/cat")[0] == 0
    assert len(rows_of(output)) == PER_NAME


def test_an_mllm_that_cannot_be_had_leaves_finished_results_alone(world, tmp_path):
    output = tmp_path / "x.jsonl"
    run(world, output, images="images/cat")
    before = output.read_bytes()
    dead = ("--rerank", "always", "--rerank-model", "http://127.0.0.1:9/v1", "--overwrite")
    with pytest.raises(Exception, match="does not answer"):
        run(world, output, *dead, images="images/cat")
    with pytest.raises(Exception, match="cannot be its own output"):
        call("rerank", output, "--output", tmp_path / "new" / ".." / "x.jsonl", *TINY, "--overwrite")
    assert output.read_bytes() == before


def test_images_that_were_moved_are_asked_for(world, tmp_path):
    shutil.copytree(world / "images" / "cat", tmp_path / "here")
    place = ("--memory", world / "memory", "--precision", "fp32", "--output", tmp_path / "x.jsonl")
    assert call("run", tmp_path / "here", *place)[0] == 0
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(Exception, match="--images FOLDER"):
        call("rerank", tmp_path / "x.jsonl", "--output", tmp_path / "y.jsonl", *TINY)
    moved = ("--images", tmp_path / "there")
    _, _, err = call("rerank", tmp_path / "x.jsonl", "--output", tmp_path / "y.jsonl", *TINY, *moved)
    assert f"{PER_NAME} images asked, 0 cached, 0 skipped, 0 failed" in err


def test_an_interrupt_says_how_to_go_on_and_blames_no_mllm(world, tmp_path, capsys, monkeypatch):
    output = tmp_path / "x.jsonl"
    write = ResultWriter.write

    def write_and_interrupt(writer, *rows, **more):
        write(writer, *rows, **more)
        if writer.done_rows >= 4:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ResultWriter, "write", write_and_interrupt)
    monkeypatch.setattr(sys, "argv", ["recognizer", "run", str(world / "images"), "--memory", str(world / "memory")])
    sys.argv += ["--output", str(output), "--rerank", "always", *map(str, TINY), "--set", "run.batch_size=2"]
    # A shell starts what runs in the background with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert end.value.code == 130
    err = capsys.readouterr().err
    assert "interrupted; repeat the same command to resume" in err
    assert "left alone" not in err
    assert 4 <= len(rows_of(output)) < IMAGES


def test_off_switches_the_cache_off_and_is_no_way_to_rerank(world, tmp_path):
    plain = tmp_path / "plain.jsonl"
    run(world, plain, images="images/cat")
    for name in ("a", "b"):
        _, _, err = call("rerank", plain, "--output", tmp_path / f"{name}.jsonl", *TINY, "--set", "rerank.cache=off")
        assert f"{PER_NAME} images asked, 0 cached" in err
    with pytest.raises(Exception, match="--rerank off leaves nothing to do"):
        call("rerank", plain, "--output", tmp_path / "c.jsonl", "--rerank", "off", *TINY)
    assert not (tmp_path / "c.jsonl").exists()


def test_settings_of_a_file_say_which_rows_are_reranked(plain, answered, tmp_path):
    (tmp_path / "auto.yaml").write_text("rerank: {when: auto, margin: 0.05}")
    config = ("--config", tmp_path / "auto.yaml")
    _, _, err = call("rerank", plain, "--output", tmp_path / "x.jsonl", *TINY, *config)
    assert re.search(r" [1-9]\d* skipped", err)


@pytest.mark.parametrize("command", ["run", "rerank", "eval"])
def test_without_an_mllm_one_sentence_comes_before_any_work(world, tmp_path, command, monkeypatch):
    run(world, tmp_path / "plain.jsonl", images="images/cat")
    monkeypatch.setattr("recognizer.encoder.Encoder.from_spec", lambda *a, **k: pytest.fail("work has begun"))
    output = tmp_path / "x.jsonl"
    arguments = {
        "run": ("run", world / "images", "--memory", world / "memory", "--output", output, "--rerank", "auto"),
        "rerank": ("rerank", tmp_path / "plain.jsonl", "--output", output),
        "eval": ("eval", world / "images", "--memory", world / "memory", "--rerank", "always"),
    }[command]
    with pytest.raises(Exception, match="no multimodal LLM is named; give --rerank-model, such as"):
        call(*arguments)
    assert not output.exists()


def test_a_fine_grained_memory_asks_unless_it_is_told_not_to(world, tmp_path):
    call("build", world / "labels.txt", "--memory", tmp_path / "fine", "--fine-grained", "--precision", "fp32")
    assert Memory.open(tmp_path / "fine").settings["rerank"] == "always"
    here = ("run", world / "images" / "cat", "--memory", tmp_path / "fine", "--precision", "fp32")
    code, _, err = call(*here, "--output", tmp_path / "a.jsonl")
    assert code == 0
    assert "the memory asks for reranking (always), but no multimodal LLM is named" in err
    assert all(row["rerank"] is None for row in rows_of(tmp_path / "a.jsonl"))
    code, _, err = call(*here, "--output", tmp_path / "c.jsonl", "--rerank", "off", *TINY)
    assert code == 0
    assert "asks for reranking" not in err
    with pytest.raises(Exception, match="rerank is 'always' and no multimodal LLM"):
        call(*here, "--output", tmp_path / "d.jsonl", "--rerank", "always")
    assert f"{PER_NAME} images asked" in call(*here, "--output", tmp_path / "b.jsonl", *TINY)[2]


class WatchedEnvironment(dict):
    """An environment that remembers which names were asked for."""

    def __init__(self, environment):
        super().__init__(environment)
        self.read = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.read.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("place", ["MEMORY.json", "calibration.yaml"])
def test_a_memory_of_somebody_else_sends_nothing_reads_no_key_and_touches_no_file(world, tmp_path, monkeypatch, place):
    mine = tmp_path / "notes.txt"
    mine.write_text("a text that someone keeps")
    monkeypatch.setenv("CANARY_SECRET", "canary")
    environment = WatchedEnvironment(os.environ)
    monkeypatch.setattr(os, "environ", environment)
    shutil.copytree(world / "memory", tmp_path / "memory")
    memory = Memory.open(tmp_path / "memory")
    evil = {"when": "always", "cache": str(mine), "api_key_env": "CANARY_SECRET"}
    output = tmp_path / "x.jsonl"
    with FakeServer() as server:
        evil["model"] = server.url
        for more in ({}, {"images": {"max_pixels": 10**9}}, {"run": {"workers": 10_000}}):
            settings = {"rerank": evil, **more}
            if place == "calibration.yaml":
                content = yaml.safe_dump({"calibration": memory_identity(memory), "score": {}, **settings})
                (memory.directory / place).write_text(sealed(content))
            else:
                manifest = read_manifest(memory.directory)
                write_manifest(memory.directory, replace(manifest, settings=settings))
            there = ("--memory", memory.directory, "--precision", "fp32")
            for command in (
                ("run", world / "images" / "cat", "--output", output, *there),
                ("run", world / "images" / "cat", "--output", output, *there, "--rerank", "always"),
                ("eval", world / "images", *there),
                ("why", world / "images" / "cat" / "0.png", "--output", tmp_path / "why.png", *there),
                ("info", *there[:2]),
            ):
                with pytest.raises(
                    SettingsError, match=rf"{place} sets `(rerank|images|run)\.\w+`, which is not for a"
                ):
                    call(*command)
        assert server.paths == []
    assert "CANARY_SECRET" not in environment.read
    assert mine.read_text() == "a text that someone keeps"
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "memory"}


def test_the_cache_is_no_file_of_somebody_else(world, tmp_path):
    mine = tmp_path / "notes.txt"
    mine.write_text("a text that someone keeps")
    for command in (("run", "--rerank", "always"), ("rerank",)):
        if command[0] == "rerank":
            run(world, tmp_path / "plain.jsonl", images="images/cat")
            started = ("rerank", tmp_path / "plain.jsonl", "--output", tmp_path / "y.jsonl")
        else:
            place = ("--memory", world / "memory", "--precision", "fp32", "--output", tmp_path / "x.jsonl")
            started = ("run", world / "images" / "cat", *place, "--rerank", "always")
        with pytest.raises(CacheFileRefused, match=r"notes\.txt"):
            call(*started, *TINY, "--set", f"rerank.cache={mine}")
    assert mine.read_text() == "a text that someone keeps"
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith("notes")} == {"notes.txt"}


@pytest.fixture(scope="module")
def numbered(world):
    """Forty pictures that a fake server tells apart, and a memory of twenty names, all of which are candidates."""
    root = world / "numbered"
    root.mkdir()
    for number in range(40):
        grey_picture(number).save(root / f"{number:03}.png")
    (world / "numbers.txt").write_text("\n".join(f"thing {number}" for number in range(20)))
    call("build", world / "numbers.txt", "--memory", world / "numbers", "--precision", "fp32")
    return root


def run_numbered(world, numbered, output, server, *more):
    place = ("--memory", world / "numbers", "--output", output, "--top-k", 20, "--precision", "fp32")
    patience = ("--set", "rerank.timeout_s=0.5", "--set", "rerank.retries=0", "--set", "rerank.jpeg_quality=null")
    patience += ("--set", "rerank.rotations=5")
    return call("run", numbered, *place, "--rerank", "always", "--rerank-model", server.url, *patience, *more)


def test_200_faults_lose_no_row_and_no_image_gets_anothers_answer(world, numbered, tmp_path):
    rng = random.Random(1)
    kinds = [rng.choice([*FAULTS, None, None, None]) for _ in range(400)]

    def fault(number, body):
        return kinds[number % 400] if number >= 3 else None  # the first three find the dialect

    def believes(body):
        """Be sure of the picture's own name."""
        own = f"thing {seen_number(image_of(body)) % 20}"
        return {symbol: -0.01 if name == own else -9.0 for symbol, name in options(text_of(body))}

    output = tmp_path / "faults.jsonl"
    with FakeServer(Behaviour(fault=fault, believes=believes)) as server:
        code, _, _ = run_numbered(
            world, numbered, output, server, "--set", "rerank.give_up_after=1000", "--set", "rerank.weight=3"
        )
        assert len(server.chats) >= 200
    assert code == 0
    rows = rows_of(output)
    assert [row["path"] for row in rows] == [f"{number:03}.png" for number in range(40)]
    statuses = {row["rerank"]["status"].split(":")[0] for row in rows}
    assert statuses <= {"ok", "timeout", "unreachable", "refused", "unreadable"}
    answered = [number for number, row in enumerate(rows) if row["rerank"]["status"] == "ok"]
    assert len(answered) >= 10
    assert all(rows[number]["label"] == f"thing {number % 20}" for number in answered)


def test_a_redirect_keeps_every_row_and_shows_no_image_elsewhere(world, numbered, tmp_path):
    output = tmp_path / "redirected.jsonl"
    with FakeServer() as elsewhere, FakeServer(Behaviour(redirects_to=elsewhere.url)) as server:
        code, _, err = run_numbered(world, numbered, output, server, "--set", "rerank.served_model=fake")
    assert elsewhere.paths == []
    assert code == 1
    assert "refused; HTTP 307; it redirects to another address, which is not followed" in err
    assert len(rows_of(output)) == 40
    assert {row["rerank"]["status"] for row in rows_of(output)} == {"refused", "skipped: gave up"}


def test_a_refusing_server_is_quoted_once_escaped_and_the_exit_code_is_1(world, numbered, tmp_path):
    output, again = tmp_path / "refused.jsonl", tmp_path / "again.jsonl"
    sentence = "No \x1b[31mvision here. Ask another."
    with FakeServer(Behaviour(refuses=lambda body: sentence)) as server:
        code, _, err = run_numbered(world, numbered, output, server)
        assert code == 1
        assert err.count('refused; HTTP 400: "No \\x1b[31mvision here."') == 1
        assert "reranking failed for every image that was asked about" in err
        assert len(rows_of(output)) == 40
        place = ("rerank", output, "--output", again, "--rerank-model", server.url)
        assert call(*place)[0] == 1
        server.behaviour.refuses = lambda body: sentence if seen_number(image_of(body)) == 7 else None
        assert call(*place, "--overwrite", "--strict")[0] == 1
        assert call(*place, "--overwrite")[0] == 0
        # Both models of the server are named once more for each command.
        assert re.search(r"serves 2 models; fake is asked, not other; --set rerank\.served_model=NAME", err)


def test_a_reranker_reranks_a_run(world, numbered, tmp_path):
    output = tmp_path / "scored.jsonl"
    believes = Behaviour(
        ranks={"/rerank"}, scores=lambda body: [0.99 if t == "thing 3" else 0.1 for t in body["documents"]]
    )
    with FakeServer(believes) as server:
        place = ("--memory", world / "numbers", "--output", output, "--top-k", 20, "--precision", "fp32")
        asked = ("--rerank", "always", "--rerank-model", f"reranker:{server.url}", "--set", "rerank.weight=4")
        code, _, err = call("run", numbered, *place, *asked)
        assert code == 0
        assert "40 images asked, 0 cached, 0 skipped, 0 failed; 40 requests" in err
        assert {row["label"] for row in rows_of(output)} == {"thing 3"}
        with pytest.raises(RecognizerError, match="writes no list"):
            call("run", numbered, *place, *asked, "--set", "rerank.mode=list")


def test_a_hostile_name_of_a_model_is_refused_in_one_printable_line(world, numbered, tmp_path, capsys, monkeypatch):
    output = tmp_path / "x.jsonl"
    with FakeServer(Behaviour(models=["\x1b[2Jm\nerror: all is well" + "m" * 3000])) as server:
        place = ["--memory", world / "numbers", "--output", output, "--rerank", "always", "--rerank-model", server.url]
        monkeypatch.setattr(sys, "argv", ["recognizer", "run", *map(str, [numbered, *place])])
        with pytest.raises(SystemExit):
            main()
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: http://127.0.0.1")
    assert line.isprintable()
    assert len(line) < 400
    assert not output.exists()


def test_a_server_that_dies_is_left_alone_and_every_row_is_there(world, numbered, tmp_path):
    output = tmp_path / "dead.jsonl"
    with FakeServer(Behaviour(fault=lambda number, body: "500" if number > 30 else None)) as server:
        code, _, err = run_numbered(world, numbered, output, server, "--set", "rerank.give_up_after=2")
        asked = len(server.chats)
    statuses = [row["rerank"]["status"] for row in rows_of(output)]
    assert (code, len(statuses)) == (0, 40)
    assert statuses.count("skipped: gave up") >= 10  # which rows were on their way by then is up to the threads
    assert err.count("left alone for the rest of the run") == 1
    assert asked < 200


def test_calibrate_fits_weight_and_margin_and_run_takes_them_up(world, tmp_path):
    memory = tmp_path / "memory"
    call("build", world / "labels.txt", "--memory", memory, "--precision", "fp32")
    figures = tmp_path / "figures"
    place = ("--memory", memory, "--precision", "fp32")
    code, out, _ = call(
        "calibrate", world / "images", *place, "--figures", figures, "--rerank-model", MODEL, *TINY[2:4]
    )
    assert code == 0
    assert "expected calibration error" in out
    assert re.search(r"rerank: weight \d", out)
    for name in ("reliability.png", "coverage.png"):
        with Image.open(figures / name) as diagram:
            assert min(diagram.size) > 300
    fitted = yaml.safe_load((memory / "calibration.yaml").read_text())
    assert fitted["score"]["calibrated"] is True
    assert fitted["rerank"]["weight"] > 0
    assert call("verify", "--memory", memory)[0] == 0
    shown = json.loads(call("info", "--memory", memory, "--json")[1])["settings"]
    assert shown["score"]["temperature"] == fitted["score"]["temperature"]
    output = tmp_path / "run.jsonl"
    code, _, err = call("run", world / "images", *place, "--output", output, "--rerank", "auto", *TINY[:4])
    assert code == 0
    assert all(row["calibrated"] for row in rows_of(output))
    skipped = sum(row["rerank"]["status"] == "skipped: confident" for row in rows_of(output))
    assert f"{skipped} skipped" in err
    info = json.loads((tmp_path / "run.jsonl.run.json").read_text())
    assert info["settings"]["rerank"]["weight"] == fitted["rerank"]["weight"]
    assert fitted["rerank"]["fitted_for"] == str(MODEL)
    plain, later = tmp_path / "plain.jsonl", tmp_path / "later.jsonl"
    assert call("run", world / "images", *place, "--output", plain)[0] == 0
    assert call("rerank", plain, "--output", later, "--rerank", "auto", *TINY[:4])[0] == 0
    # Reranked later, rows are judged by what calibration fitted, as in the run itself.
    assert [(r["label"], r["unknown"]) for r in rows_of(later)] == [(r["label"], r["unknown"]) for r in rows_of(output)]
    other = ("--rerank-model", f"transformers:{MODEL}", *TINY[2:4])
    _, _, err = call(
        "run", world / "images" / "cat", *place, "--output", tmp_path / "o.jsonl", "--rerank", "always", *other
    )
    assert "were fitted for" in err
    assert not any(row["calibrated"] for row in rows_of(tmp_path / "o.jsonl"))
    assert info["settings"]["score"]["temperature"] == fitted["score"]["temperature"]
    elsewhere = tmp_path / "elsewhere.yaml"
    call("calibrate", world / "images", *place, "--figures", figures, "--output", elsewhere)
    code, _, _ = call("run", world / "images" / "cat", *place, "--output", tmp_path / "b.jsonl", "--config", elsewhere)
    assert code == 0


def test_eval_prints_rerank_and_its_ceiling(world, tmp_path):
    table = tmp_path / "eval.json"
    memory = ("--memory", world / "memory", "--precision", "fp32")
    code, out, _ = call("eval", world / "images", *memory, "--rerank", "always", *TINY, "--json", table)
    assert code == 0
    assert re.search(rf"rerank: \d+% of the oracle's gain; {IMAGES} images asked", out)
    assert "after rerank" in out
    found = json.loads(table.read_text())
    assert (
        found["rows"]["oracle rerank"]["top1"] >= found["rows"]["+ rerank"]["top1"] > found["rows"]["+ regions"]["top1"]
    )
    assert found["rerank"]["cost"]["requests"] == 5 * IMAGES
    assert found["rerank"]["ceiling_share"] > 0.8


def test_rank_data_writes_all_formats(world, tmp_path):
    memory = ("--memory", world / "memory", "--precision", "fp32")
    code, out, _ = call("rank-data", world / "images", *memory, "--output", tmp_path / "data", "--neighbours", 10)
    assert code == 0
    assert "held_out" in out
    written = {path.name for path in (tmp_path / "data").iterdir()}
    assert {"train.rar.json", "train.messages.jsonl", "train.trl.jsonl", "dataset_info.json"} <= written
