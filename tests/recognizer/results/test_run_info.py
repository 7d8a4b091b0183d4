import json
from dataclasses import replace
from pathlib import Path

import pytest

from memory.errors import WriteFailed
from recognizer.results import ResumeRefused, RunCounts, read_run_info
from recognizer.results.run_files import find_run_files
from recognizer.results.run_info import finish_run_info, mask_secrets, require_same_settings, write_run_info


def test_what_is_written_is_read_again(tmp_path, info):
    finished = finish_run_info(info, RunCounts(7, {"E_TRUNCATED": 1, "E_EMPTY": 1}))
    write_run_info(tmp_path / "run.json", finished)
    read = read_run_info(tmp_path / "run.json")
    assert read.identity() == finished.identity()
    assert (read.state, read.counts, read.errors) == (
        "finished",
        {"ok": 7, "error": 2},
        {"E_EMPTY": 1, "E_TRUNCATED": 1},
    )
    assert read.finished >= read.started
    assert {"python", "numpy", "pillow"} <= set(read.versions)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    content = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**content, "keys_sha256": "ab"}))  # as earlier releases wrote it
    assert read_run_info(tmp_path / "run.json") == read


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": 99}', "\0\0"])
def test_other_files_of_that_name_are_not_taken_for_ours(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    assert read_run_info(tmp_path / "run.json") is None
    assert find_run_files(tmp_path / "results.csv", "csv").read_info() is None


def test_differing_settings_are_named_with_both_values(tmp_path, info):
    write_run_info(tmp_path / "run.json", info)
    earlier = read_run_info(tmp_path / "run.json")
    moved = replace(info, device="cuda:0", input_root="/elsewhere", command=["x"], count=10, versions={})
    require_same_settings(earlier, moved, Path("results.jsonl"))
    other = replace(
        info,
        settings={"top_k": 6, "score": {"image_name": 0.4, "temperature": 0.01}, "templates": ["a {}", "the {}"]},
        model={"fingerprint": "beef"},
        memory={"version": 3, "digest": "beef", "index": "hnsw"},
    )
    with pytest.raises(ResumeRefused) as caught:
        require_same_settings(earlier, other, Path("results.jsonl"))
    said = str(caught.value)
    assert "; top_k: was 5, is 6" in said
    assert "; score.temperature: was '(not set)', is 0.01" in said
    assert "settings: model.fingerprint: was 'f00d', is 'beef'; the memory holds other rows (memory.digest); " in said
    assert "; memory.index: was 'exact', is 'hnsw'" in said
    assert "memory.version" not in said
    assert "--overwrite" in said
    assert "image_name" not in said
    assert "templates" not in said


def test_the_memory_of_an_earlier_release_is_known_by_all_that_was_written(info):
    earlier = replace(info, memory={"path": "memory", "version": 3, "categories": 9})
    require_same_settings(earlier, replace(info, memory={**earlier.memory, "digest": "d00d"}), Path("results.jsonl"))
    for name, value in (("path", "other"), ("version", 4), ("categories", 8)):
        other = replace(info, memory={**earlier.memory, "digest": "d00d", name: value})
        with pytest.raises(ResumeRefused, match=f"memory.{name}: was"):
            require_same_settings(earlier, other, Path("results.jsonl"))


def test_a_write_that_fails_leaves_the_old_file(tmp_path, info, monkeypatch):
    write_run_info(tmp_path / "run.json", info)
    before = (tmp_path / "run.json").read_bytes()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(WriteFailed, match="No space left"):
        write_run_info(tmp_path / "run.json", replace(info, count=99))
    assert (tmp_path / "run.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_secrets_on_the_command_line_are_masked(tmp_path, info):
    command = [
        "recognizer",
        "run",
        "--api-key",
        "canary",
        "--hf-token=canary",
        "b.jpg",
        "--key",
        "--top-k",
        "5",
        "keys/a.jpg",
    ]
    assert mask_secrets(command) == [
        "recognizer", "run", "--api-key", "***", "--hf-token=***", "b.jpg", "--key", "--top-k", "5", "keys/a.jpg"
    ]  # fmt: skip
    write_run_info(tmp_path / "run.json", replace(info, command=command))
    assert "canary" not in (tmp_path / "run.json").read_text()
    assert json.loads((tmp_path / "run.json").read_text())["command"][3] == "***"
