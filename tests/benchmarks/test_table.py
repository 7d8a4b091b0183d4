"""The table of comparisons, its curves, and each of its rows with tiny sizes."""

import itertools
import sys

import pytest
from PIL import Image

from tests.benchmarks import growth, table
from tests.benchmarks.comparison import Comparison, hand_over, handed_over, in_turns

TEXTS = Comparison("360 texts", "texts/s", 120.0, 24.0, 150.0, peer_is="a loop", bound_is="bare tower")
ADD = Comparison("`add` of one", "s", 0.5, 2.0, 0.01, peer_is="plain script", bound_is="append")
TINY = {
    1: "text_encoding.py --names 2 --rounds 1 --model ViT-S-32",
    2: "folder.py --small 4 --large 2 --names 10 --rounds 1",
    4: "scoring.py --index ivf --categories 500 --descriptions 3 --regions 5",
    5: "start_up.py --rounds 1",
    6: "large_memory.py 100 --dim 16",
    7: "training_step.py --models towers --ranks 1 --batch 2 --repeats 1",
    8: "growth.py --categories 1000 --pictures 1000 --encode 100",
    9: "ray_engine.py --images 24 --copies 1 --rounds 1",
}


def test_more_is_better_of_rates_and_less_of_times():
    assert TEXTS.against(TEXTS.peer) == 5.0
    assert TEXTS.against(TEXTS.bound) == 0.8
    assert ADD.against(ADD.peer) == 4.0
    assert ADD.against(None) is None


def test_ways_take_turns_and_the_first_rounds_do_not_count(monkeypatch):
    calls = []
    now = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    monkeypatch.setattr("time.process_time", lambda: 0.0)
    slow = {0: 100, 1: 3, 2: 1, 3: 5}

    def waits():
        calls.append("a")
        for _ in range(slow[calls.count("a") - 1]):
            next(now)

    times = in_turns({"a": waits, "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert times["a"].wall == 4.0  # the median of 1, 3 and 5, and the tick of the clock itself
    assert times["b"].wall == 1.0


def test_a_row_is_printed_with_its_ratios_and_its_command(tmp_path):
    hand_over(tmp_path / "figures.json", [TEXTS, ADD])
    assert handed_over(tmp_path / "figures.json") == [TEXTS, ADD]
    script = tmp_path / "row.py"
    script.write_text(
        f"import pathlib, sys; pathlib.Path(sys.argv[sys.argv.index('--json') + 1])"
        f".write_text({(tmp_path / 'figures.json').read_text()!r})"
    )
    first, second = table.lines(1, [str(script), "--names", "40"])
    assert first == (
        "| 1. 360 texts | 120 texts/s | 24 texts/s (a loop) | 150 texts/s (bare tower) | 5 | 0.8 "
        f"| `python tests/benchmarks/{script} --names 40` |"
    )
    assert second == "| 1. `add` of one | 0.5 s | 2 s (plain script) | 0.01 s (append) | 4 | 0.02 | the same |"


def test_a_row_that_fails_says_so(tmp_path):
    script = tmp_path / "row.py"
    script.write_text("raise SystemExit(3)")
    assert next(table.lines(2, [str(script)])).startswith("| 2. failed with exit status 3 |")


def test_the_row_of_search_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["table.py", "--rows", "3"])
    table.main()
    assert "| 3. left out: give --cache and --features |" in capsys.readouterr().out


def test_growth_is_drawn(tmp_path):
    searches = [
        growth.Point(curve, size, size / 1e5, ram=size / 100, composed=True, kind="exact" if size < 1000 else "hnsw")
        for curve in (growth.EVERYTHING, growth.AUTO)
        for size in growth.sizes(10_000)
    ]
    folders = [
        growth.Point(curve, size, size / 100, composed=size > 100)
        for curve in (growth.FIRST, growth.SECOND, growth.NPY_SECOND)
        for size in growth.sizes(1000)
    ]
    growth.draw(searches, folders, 0.03, "a model on a machine", tmp_path / "growth.png")
    with Image.open(tmp_path / "growth.png") as picture:
        assert picture.size == (1500, 840)
    among, folder = growth.comparisons(searches, folders, 0.03)
    assert among.what.startswith("an image among 10,000 categories")
    assert among.ours == pytest.approx(130)
    assert folder.ours == 10


@pytest.mark.slow
@pytest.mark.parametrize("number", TINY)
def test_a_row_measures_something(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for the picture
    found = list(table.lines(number, TINY[number].split()))
    assert found
    assert not [line for line in found if "failed" in line]
