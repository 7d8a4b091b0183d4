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

from rerank.base import Candidate
from rerank.cache import Answer, AnswerCache, answer_key, default_cache_path

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


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=20),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
        max_size=8,
    )
)
def test_numbers_come_back_exactly(tmp_path_factory, answers):
    with opened(tmp_path_factory.mktemp("cache") / "answers.sqlite") as cache:
        kept = {key: Answer(tuple(values), (key[:1],)) for key, values in answers.items() if key.isprintable()}
        for key, answer in kept.items():
            cache.put(key, answer)
        assert cache.get_many(kept) == kept


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_never_kept(tmp_path, value):
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
from rerank.cache import Answer, AnswerCache
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


def test_damaged_file_is_put_aside_with_one_warning(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"this is no database, but a text that someone keeps " * 50)
    warnings = []
    with opened(path, warnings) as cache:
        cache.put("a", ANSWER)
        assert cache.get_many(["a"]) == {"a": ANSWER}
    assert len(warnings) == 1
    assert "damaged" in warnings[0]
    assert str(path) in warnings[0]
    assert path.with_name("answers.sqlite.damaged").read_bytes().startswith(b"this is no database")
    with opened(path, warnings) as cache:
        assert cache.get_many(["a"]) == {"a": ANSWER}
    assert len(warnings) == 1


def overwrite_pages(path):
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


def test_damage_met_while_reading_is_put_aside_too(tmp_path):
    path = tmp_path / "answers.sqlite"
    with opened(path) as cache:
        for number in range(500):
            cache.put(str(number), ANSWER)
    overwrite_pages(path)
    warnings = []
    with opened(path, warnings) as cache:
        assert cache.get_many(["1"]) == {}
        cache.put("1", ANSWER)
        assert cache.get_many(["1"]) == {"1": ANSWER}
        assert cache.on
    assert len(warnings) == 1


def test_second_process_that_meets_the_damage_keeps_the_first_ones_new_file(tmp_path):
    path = tmp_path / "answers.sqlite"
    with opened(path) as cache:
        for number in range(500):
            cache.put(str(number), ANSWER)
    overwrite_pages(path)
    ours, theirs = [], []
    with opened(path, ours) as first, opened(path, theirs) as second:
        first.put("new", ANSWER)
        assert first.get_many(["new"]) == {"new": ANSWER}
        second.put("newer", ANSWER)
        assert second.get_many(["new", "newer"]) == {"new": ANSWER, "newer": ANSWER}
    assert len(ours) == 1
    assert theirs == []
    with opened(path) as cache:
        assert len(cache.get_many(["new", "newer"])) == 2


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
        cache.put("b", ANSWER)
        cache.put("c", ANSWER)
        assert not cache.on
    assert len(warnings) == 1
    assert "readonly" in warnings[0]


FULL_DISK = """
import resource, sys
from pathlib import Path
from rerank.cache import Answer, AnswerCache
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


def test_database_of_another_program_or_version_is_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE photos (name)")
    warnings = []
    with opened(path, warnings) as cache:
        assert not cache.on
    assert len(warnings) == 1
    with opened(tmp_path / "later.sqlite") as cache:
        cache.put("a", ANSWER)
    with contextlib.closing(sqlite3.connect(tmp_path / "later.sqlite")) as other, other:
        other.execute("PRAGMA user_version=2")
    with opened(tmp_path / "later.sqlite", warnings) as cache:
        assert not cache.on
    assert len(warnings) == 2
    assert not list(tmp_path.glob("*.damaged"))


def test_lock_held_for_too_long_turns_the_cache_off(tmp_path, monkeypatch):
    monkeypatch.setattr("rerank.cache._BUSY_S", 0.05)
    path = tmp_path / "answers.sqlite"
    warnings = []
    with opened(path) as cache:
        with cache._one_process(), opened(path, warnings) as late:
            assert not late.on
        assert cache.on
    assert len(warnings) == 1
    assert "lock" in warnings[0]


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


def test_an_answer_is_kept_in_well_under_a_millisecond(tmp_path):
    with opened(tmp_path / "answers.sqlite") as cache:
        started = time.perf_counter()
        for number in range(1000):
            cache.put(str(number), ANSWER)
        assert time.perf_counter() - started < 5
