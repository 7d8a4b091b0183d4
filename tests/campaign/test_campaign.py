import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaign import kill_describe, kill_edits, mutations
from tests.campaign.conclusion import bound, read_conclusion

ROOT = Path(__file__).parents[2]


def test_a_sample_of_mutated_files_gives_no_traceback_and_no_other_answer():
    assert not mutations.faults(mutations.run(80, 1, list(mutations.KINDS)))


def test_a_killed_edit_is_made_or_not_made(tmp_path):
    counts = kill_edits.survive(tmp_path, 2, 5)
    assert (counts["kills"], counts["wrong memories"], counts["failed checks"]) == (2, 0, 0)
    assert counts["edits acknowledged"] > 0


def test_a_killed_describe_goes_on_without_asking_twice(tmp_path):
    counts = kill_describe.survive(tmp_path, 2, 0)
    assert (counts["kills"], counts["other files"]) == (2, 0)
    assert counts["questions"] <= counts["most questions"]


# In processes of their own, which fork and use Lance for the first time in a fork.
@pytest.mark.parametrize(
    "part",
    [
        ("kill_points", "--points", "8", "--writes", "add", "checkpoint"),
        ("io_faults", "--faults", "12", "--writes", "add", "results"),
        ("power_loss", "--cases", "12", "--writes", "remove", "first checkpoint"),
    ],
    ids=lambda part: part[0],
)
def test_a_sample_of_disturbed_writes_holds(part):
    command = [sys.executable, "-m", f"tests.campaign.{part[0]}", *part[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    held, total, _ = read_conclusion(done.stdout.splitlines())
    assert held == total >= int(part[2])


def test_parts_that_are_done_are_not_run_again_and_stand_in_the_table(tmp_path):
    command = [sys.executable, "-m", "tests.campaign", "--parts", "mutations", "--scale", "0.001"]
    command += ["--output", str(tmp_path / "campaign.jsonl")]
    first, second = (subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False) for _ in range(2))
    assert first.returncode == 0, first.stdout + first.stderr
    assert second.stdout == first.stdout
    assert "| F5, F6, F8, F9 mutations | 10 mutations | 10 | yes |" in first.stdout
    assert len((tmp_path / "campaign.jsonl").read_text().splitlines()) == 1


def test_a_conclusion_is_read_back_and_a_part_that_broke_off_has_none():
    assert read_conclusion(["chatter", "3 of 4 kills of edits held"]) == (3, 4, "kills of edits")
    assert read_conclusion(["Traceback"]) is read_conclusion([]) is None
    assert (bound(300), bound(0)) == ("1.00%", "-")
