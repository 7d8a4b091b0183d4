import contextlib
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank.base import Answer, Candidate
from rerank.cache import AnswerCache, CacheFileRefused, answer_key, default_cache_path, text_key

ANSWER = Answer((-0.1, -2.5, -3.0), ("left out 1",))
ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def opened(path, warnings=None):
    cache = AnswerCache(path, warn=None if warnings is None else warnings.append)
    try:
        yield cache
    finally:
        cache.close()


def run_script(text, *arguments, **options):
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_what_is_put_is_found_again_by_the_next_run(tmp_path):
    path = tmp_path / "deep" / "folder" / "answers.sqlite"
    with opened(path) as cache:
        assert cache.on
        cache.put("a", ANSWER)
        cache.put("b", Answer((0.0,)))
        assert cache.get_many(["a", "c", "a"]) == {"a": ANSWER}
    with opened(path) as cache:
        assert cache.get_many(["a", "b", "c"]) == {"a": ANSWER, "b": Answer((0.0,))}
        cache.put("a", Answer((-1.0,)))
        assert cache.get_many(["a"]) == {"a": Answer((-1.0,))}
        assert cache.get_many([]) == {}


@settings(max_examples=20)  # each makes a database
@given(
    st.dictionaries(
        st.text(max_size=20),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
        max_size=8,
    )
)
def test_numbers_come_back_exactly(tmp_path_factory, answers):
    with opened(tmp_path_factory.mktemp("cache") / "answers.sqlite") as cache:
        stored = {key: Answer(tuple(values), (key[:1],)) for key, values in answers.items() if key.isprintable()}
        for key, answer in stored.items():
            cache.put(key, answer)
        assert cache.get_many(stored) == stored


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_never_found(tmp_path, value):
    with opened(tmp_path / "answers.sqlite") as cache:
        cache.put("a", Answer((-1.0, value)))
        cache.put("b", Answer(()))
        assert cache.get_many(["a", "b"]) == {}


@pytest.mark.parametrize(
    "value",
    ["", "{", "[]", "null", '{"log_probs": [1]}', '{"log_probs": ["x"], "reasons": []}',
     '{"log_probs": [NaN], "reasons": []}',
     '{"log_probs": [], "reasons": []}', '{"log_probs": 3, "reasons": []}', '{"log_probs": [0], "reasons": null}'],
)  # fmt: skip
def test_value_that_holds_no_answer_is_not_found(tmp_path, value):
    path = tmp_path / "answers.sqlite"
    with opened(path) as cache:
        cache.put("good", ANSWER)
        with contextlib.closing(sqlite3.connect(path)) as other, other:
            other.execute("INSERT INTO answers VALUES ('bad', ?)", (value,))
        assert cache.get_many(["good", "bad"]) == {"good": ANSWER}


def test_many_keys_at_once(tmp_path):
    with opened(tmp_path / "answers.sqlite") as cache:
        for number in range(1201):
            cache.put(str(number), Answer((float(number),)))
        found = cache.get_many(str(number) for number in range(2000))
    assert found == {str(number): Answer((float(number),)) for number in range(1201)}


def test_threads_share_one_cache(tmp_path):
    with opened(tmp_path / "answers.sqlite") as cache:

        def work(thread):
            for number in range(100):
                cache.put(f"{thread} {number}", Answer((float(number),)))
                assert cache.get_many([f"{thread} {number}"])

        threads = [threading.Thread(target=work, args=(each,)) for each in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(cache.get_many(f"{t} {n}" for t in range(4) for n in range(100))) == 400


WRITER = """
import sys
from pathlib import Path
from rerank.base import Answer
from rerank.cache import AnswerCache
path, prefix, first, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
cache = AnswerCache(path, warn=lambda text: print("WARNING", text, flush=True))
for number in range(first, first + count):
    cache.put(f"{prefix}{number}", Answer((float(number), -1.5)))
    print(number, flush=True)
cache.close()
"""


def test_two_processes_begin_and_write_the_same_keys_at_once(tmp_path):
    path = tmp_path / "answers.sqlite"
    writers = [run_script(WRITER, path, "", 0, 300), run_script(WRITER, path, "", 0, 300)]
    writers += [run_script(WRITER, path, "own ", 0, 300)]
    outputs = [writer.communicate(timeout=60) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], outputs
    assert not any("WARNING" in output for output, _ in outputs)
    with opened(path) as cache:
        for prefix in ("", "own "):
            wanted = {f"{prefix}{number}": Answer((float(number), -1.5)) for number in range(300)}
            assert cache.get_many(wanted) == wanted


def test_every_acknowledged_answer_survives_a_kill(tmp_path):
    path = tmp_path / "answers.sqlite"
    acknowledged = {}
    for kill in range(6):
        writer = run_script(WRITER, path, "", kill * 1_000_000, 1_000_000)
        # from before the file is open to well into the writing
        lines = [writer.stdout.readline() for _ in range((0, 1, 7, 100, 1500, 3000)[kill])]
        os.kill(writer.pid, signal.SIGKILL)
        lines += writer.communicate(timeout=60)[0].split("\n")
        assert writer.returncode == -signal.SIGKILL
        for line in lines[:-1]:
            acknowledged[line.strip()] = Answer((float(line), -1.5))
        warnings = []
        with opened(path, warnings) as cache:
            assert cache.get_many(acknowledged) == acknowledged
            cache.put(f"after {kill}", ANSWER)
        assert warnings == []
    assert len(acknowledged) > 4600


def unchanged_after_refusal(path, message):
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    warnings = []
    with pytest.raises(CacheFileRefused, match=message) as refused:
        AnswerCache(path, warn=warnings.append)
    assert str(path) in str(refused.value)
    assert "name another file" in str(refused.value)
    assert warnings == []
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize("content", [b"x", b"a text that someone wrote " * 50, b"SQLite format 3\0", bytes(5000)])
def test_file_that_is_not_a_database_is_refused_and_not_touched(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    unchanged_after_refusal(path, "is not a SQLite database")


@pytest.mark.parametrize("statement", ["CREATE TABLE photos (name)", "CREATE TABLE answers (x); PRAGMA user_version=7"])
def test_database_of_another_program_is_refused_and_not_touched(tmp_path, statement):
    path = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.executescript(statement)
    unchanged_after_refusal(path, "not a cache of answers of version 1")


def test_cache_of_another_version_is_refused(tmp_path):
    path = tmp_path / "later.sqlite"
    with opened(path) as cache:
        cache.put("a", ANSWER)
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("PRAGMA user_version=2")
    with pytest.raises(CacheFileRefused, match="version 1"):
        AnswerCache(path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT key FROM answers").fetchall() == [("a",)]


def test_empty_file_becomes_a_cache(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.touch()
    with opened(path) as cache:
        cache.put("a", ANSWER)
        assert cache.get_many(["a"]) == {"a": ANSWER}


def test_damage_turns_the_cache_off_with_one_warning_and_the_file_stays(tmp_path):
    path = tmp_path / "answers.sqlite"
    with opened(path) as cache:
        for number in range(500):
            cache.put(str(number), ANSWER)
    damaged = path.read_bytes()[:4096] + b"\xa5" * (path.stat().st_size - 4096)
    path.write_bytes(damaged)
    warnings = []
    with opened(path, warnings) as cache:
        assert cache.get_many(["1"]) == {}
        cache.put("1", ANSWER)
        assert cache.get_many(["1"]) == {}
        assert not cache.on
    assert len(warnings) == 1
    assert str(path) in warnings[0]
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("where", ["a folder", "below a file"])
def test_place_that_cannot_be_written_turns_the_cache_off_with_one_warning(tmp_path, where):
    (tmp_path / "file").touch()
    path = tmp_path if where == "a folder" else tmp_path / "file" / "answers.sqlite"
    warnings = []
    with opened(path, warnings) as cache:
        for _ in range(3):
            cache.put("a", ANSWER)
            assert cache.get_many(["a"]) == {}
        assert not cache.on
    assert len(warnings) == 1
    assert str(path) in warnings[0]


def test_read_only_database_turns_the_cache_off_with_one_warning(tmp_path, monkeypatch):
    path = tmp_path / "answers.sqlite"
    with opened(path) as cache:
        cache.put("a", ANSWER)
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda path, **options: connect(f"{path.as_uri()}?mode=ro", uri=True, **options)
    )
    warnings = []
    with opened(path, warnings) as cache:
        assert cache.get_many(["a"]) == {"a": ANSWER}
        cache.put("b", ANSWER)
        cache.put("c", ANSWER)
        assert not cache.on
    assert len(warnings) == 1
    assert "readonly" in warnings[0]


FULL_DISK = """
import resource, sys
from pathlib import Path
from rerank.base import Answer
from rerank.cache import AnswerCache
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
warnings = []
cache = AnswerCache(Path(sys.argv[1]), warn=warnings.append)
for number in range(3000):
    cache.put(str(number), Answer((float(number),) * 20))
    if not cache.on:
        break
cache.put("a", Answer((0.0,)))
assert not cache.on and len(warnings) == 1, (cache.on, warnings)
print(number)
"""


def test_full_disk_turns_the_cache_off_with_one_warning(tmp_path):
    path = tmp_path / "answers.sqlite"
    writer = run_script(FULL_DISK, path)
    output, errors = writer.communicate(timeout=60)
    assert writer.returncode == 0, errors
    written = {str(number): Answer((float(number),) * 20) for number in range(int(output))}
    assert written
    with opened(path) as cache:
        assert cache.get_many(written) == written


def test_closed_cache_finds_and_keeps_nothing(tmp_path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache.close()
    cache.put("a", ANSWER)
    assert cache.get_many(["a"]) == {}
    cache.close()


QUESTION = {
    "image_sha256": "ab",
    "candidates": [Candidate("cat", ("fur",), "animals"), Candidate("dog")],
    "identity": "model@1",
    "prompt_version": 1,
    "mode": "choice",
    "rotations": None,
    "image_size": 448,
    "descriptions": 3,
}


def test_key_is_the_same_in_every_process():
    again = run_script(
        "from rerank.base import Candidate; from rerank.cache import answer_key; "
        f"print(answer_key(**{QUESTION!r}))", env={**os.environ, "PYTHONHASHSEED": "7"}
    )  # fmt: skip
    assert again.communicate(timeout=60)[0].strip() == answer_key(**QUESTION)
    assert len(bytes.fromhex(answer_key(**QUESTION))) == 32


CAT, DOG = QUESTION["candidates"]


@pytest.mark.parametrize(
    "change",
    [
        {"image_sha256": "ac"},
        {"candidates": [DOG, CAT]},
        {"candidates": [CAT]},
        {"candidates": [Candidate("Cat", ("fur",), "animals"), DOG]},
        {"candidates": [Candidate("cat", ("fur", "claws"), "animals"), DOG]},
        {"candidates": [Candidate("cat", ("claws",), "animals"), DOG]},
        {"candidates": [Candidate("cat", (), "animals"), DOG]},
        {"candidates": [Candidate("cat", ("fur",)), DOG]},
        {"candidates": [Candidate("cat", ("animals",), "fur"), DOG]},
        {"candidates": [Candidate("cat", ("fur",), "animals"), Candidate("dog", ("",))]},
        {"identity": "model@2"},
        {"prompt_version": 2},
        {"mode": "list"},
        {"rotations": 2},
        {"image_size": 336},
        {"descriptions": 2},
    ],
    ids=lambda change: json.dumps(change, default=str)[:40],
)
def test_change_of_any_part_changes_the_key(change):
    assert answer_key(**{**QUESTION, **change}) != answer_key(**QUESTION)


def test_confidences_of_retrieval_are_no_part_of_the_key():
    unsure = [Candidate("cat", ("fur",), "animals", 0.1), Candidate("dog", confidence=0.2)]
    assert answer_key(**{**QUESTION, "candidates": unsure}) == answer_key(**QUESTION)


def test_default_path_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_path() == tmp_path / "recognizer" / "rerank.sqlite"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert default_cache_path() == tmp_path / "home" / ".cache" / "recognizer" / "rerank.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_path() == tmp_path / "home" / ".cache" / "recognizer" / "rerank.sqlite"


@pytest.mark.timing
def test_an_answer_is_stored_in_well_under_a_millisecond(tmp_path):
    with opened(tmp_path / "answers.sqlite") as cache:
        started = time.perf_counter()
        for number in range(1000):
            cache.put(str(number), ANSWER)
        assert time.perf_counter() - started < 1


def test_texts_come_back_exactly_and_are_no_answers(tmp_path):
    path = tmp_path / "answers.sqlite"
    texts = {"a": "", "b": 'with "quotes"\nand lines', "c": "lone \ud800 surrogate", "d": "é" * 10_000}
    with opened(path) as cache:
        for key, text in texts.items():
            cache.put_text(key, text)
        cache.put("answer", ANSWER)
    with opened(path) as cache:
        assert cache.get_texts([*texts, "answer", "missing"]) == texts
        assert cache.get_many([*texts, "answer"]) == {"answer": ANSWER}


WRITTEN = {
    "image_sha256": "ab", "text": "what?", "schema": {"type": "object"}, "max_tokens": 9, "image_size": 448,
    "identity": "model@1",
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"image_sha256": ""}, {"text": "who?"}, {"schema": None}, {"max_tokens": 8}, {"image_size": 224},
     {"identity": "model@2"}],
)  # fmt: skip
def test_a_written_answer_depends_on_all_that_was_asked(change):
    assert text_key(**WRITTEN) == text_key(**dict(reversed(WRITTEN.items())))
    assert text_key(**WRITTEN | change) != text_key(**WRITTEN)


def test_without_an_image_its_size_is_no_matter():
    alone = WRITTEN | {"image_sha256": ""}
    assert text_key(**alone) == text_key(**alone | {"image_size": 1})
