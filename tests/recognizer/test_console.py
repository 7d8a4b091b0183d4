import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recognizer.console import LONGEST_LINE, note, progress_bar, show, table, text_progress, user_errors

HOSTILE = "\x1b]0;title\x07 \x1b[2J\r\n\u202e\x9b31m\ud800" + "x" * 5_000_000
PACKAGES = Path(__file__).parents[2]


@pytest.mark.parametrize("write", [note, show])
def test_a_line_is_escaped_and_cut(capsys, write):
    write(HOSTILE)
    captured = capsys.readouterr()
    line = captured.err or captured.out
    assert line.startswith(r"\x1b]0;title\x07 \x1b[2J\r\n\u202e\x9b31m\ud800xxx")
    assert line.endswith("xx…\n")
    assert len(line) == LONGEST_LINE + 1
    assert line[:-1].isprintable()


def test_tables_keep_their_lines_and_nothing_else_does(capsys):
    show(table(["name"], [["a\n\x1bb"]]), "", "1\n2")
    assert capsys.readouterr().out.splitlines() == ["name", "--------", r"a\n\x1bb", "", r"1\n2"]
    show("\n" + table(["name"], []))
    assert capsys.readouterr().out.startswith(r"\nname\n")


def test_a_bar_shows_its_description_escaped(capsys):
    with progress_bar(1, "img", "\x1b[2J"):
        pass
    assert "\x1b[2J" not in capsys.readouterr().err


@pytest.mark.parametrize("package", ["memory", "recognizer", "rerank", "training"])
def test_only_the_console_writes_to_a_terminal(package):
    """Streams of results and JSON are the exceptions; `print` is refused by ruff."""
    allowed = {
        "recognizer/console.py",
        "recognizer/cli/inspect_commands.py",  # `info --json`, in ASCII; `export -`
        "recognizer/results/opening.py",  # rows on stdout
        "recognizer/cli/app.py",  # closes stderr after a broken pipe
        "training/train_log.py",  # between two drawings of its bar
    }
    found = set()
    for path in (PACKAGES / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr"):
                found.add(path.relative_to(PACKAGES).as_posix())
    assert found <= allowed


def test_nothing_to_do_has_no_bar(capsys):
    with progress_bar(0, "images", "draw") as advance:
        advance(0)
    with progress_bar(3, "images", "draw", done=3) as advance:
        advance(0, failed=0)
    with text_progress() as show:
        show(0, 0)
    assert capsys.readouterr().err == ""


def test_a_table_is_aligned_shortened_and_printable():
    assert table(["name", "n"], [["a\nb", "1"], ["x" * 9, "22"]], widest=6).splitlines() == [
        "name    n",
        "------  --",
        "a\\nb    1",
        "xxxxx…  22",
    ]


def test_messages_and_bars_go_to_stderr(capsys):
    note("hello")
    with progress_bar(4, "img", "evaluate") as advance:
        advance(3)
        advance(1)
    with text_progress() as show:
        show(2, 8)
        show(8, 8)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hello\n")
    assert "evaluate: 100%" in err
    assert "4/4" in err


def test_the_bar_of_texts_ends_with_them(monkeypatch):
    drawn = []

    class Bar:
        n = 0

        def __init__(self, *, desc, **_):
            drawn.append(desc)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            drawn.append("closed")

        def update(self, step):
            self.n += step

    monkeypatch.setattr("tqdm.tqdm", Bar)
    with text_progress() as show:
        for done in (0, 4, 8):
            show(done, 8)
        assert drawn == ["encode texts", "closed"]
        show(8, 8)
    assert drawn == ["encode texts", "closed"]


def test_a_bar_of_a_log_is_a_line_now_and_then_with_speed_failures_and_time_left(capsys):
    with progress_bar(6, "images", "recognise", done=2) as advance:
        for failed in (0, 1, 1):
            advance(1, failed=failed)
        note("the server is slow")
        advance(1)
    first, said, last = capsys.readouterr().err.splitlines()
    assert first == "recognise:  33% 2/6, ? images/s, ? left"
    assert said == "the server is slow"
    assert re.fullmatch(r"recognise: 100% 6/6, *[\d.]+ images/s, 2 failed, 00:00 left", last)


ON_A_TERMINAL = """
import os, pty, sys, termios
pid, terminal = pty.fork()
if pid:
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            break
    os.waitpid(pid, 0)
    sys.stdout.buffer.write(shown)
else:
    if len(sys.argv) > 1:
        termios.tcsetwinsize(2, (24, int(sys.argv[1])))
    from recognizer.console import note, progress_bar
    note("before")
    with progress_bar(6, "images", "recognise") as advance:
        advance(3, failed=1)
        note("the server is slow")
    note("after")
"""


@pytest.mark.parametrize("width", [(), ("120",)])
def test_notes_on_a_terminal_stand_above_the_bar(width):
    """Also where the terminal does not know its size."""
    command = [sys.executable, "-c", ON_A_TERMINAL, *width]
    shown = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    lines = [line.rsplit("\r", 1)[-1] for line in shown.replace("\r\n", "\n").split("\n")]
    assert [line for line in lines if "recognise" not in line] == ["before", "the server is slow", "after", ""]
    assert re.match(r"recognise:  50% 3/6, *[\d.]+ images/s, 1 failed, 00:0\d left \|.+\|$", lines[2])


def test_errors_of_every_package_are_shown_as_one_sentence():
    from memory import MemoryStoreError
    from recognizer.images import ImageError
    from rerank.base import RerankError

    for error in (
        MemoryStoreError("m"),
        ImageError("E_EMPTY", "r"),
        RerankError("r"),
        FileNotFoundError(),
        ValueError(),
    ):
        assert isinstance(error, user_errors())
    for fault in (AttributeError(), KeyError(), RuntimeError()):
        assert not isinstance(fault, user_errors())
