import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaign import kill_describe, kill_review, mutations
from tests.campaign.conclusion import bound, read_conclusion

ROOT = Path(__file__).parents[2]


def test_a_sample_of_mutated_files_gives_no_traceback_and_no_other_answer():
    assert not mutations.faults(mutations.run(80, 1, list(mutations.KINDS)))


def test_a_killed_describe_goes_on_without_asking_twice(tmp_path):
    counts = kill_describe.survive(tmp_path, 2, 0)
    assert (counts["kills"], counts["other files"]) == (2, 0)
    assert counts["questions"] <= counts["most questions"]


@pytest.mark.slow
def test_a_killed_review_keeps_each_correction_once(tmp_path):
    counts = kill_review.survive(tmp_path, 4, 60, 0)
    assert list(counts.values())[list(counts).index("lost") :] == [0] * 6
    assert (counts["kills"], counts["corrections"]) == (4, 60)


# One process for all three, which forks and uses Lance for the first time in a fork.
SAMPLES = """
import sys
from tests.campaign import io_faults, kill_points, power_loss
modules = {"kill_points": kill_points, "io_faults": io_faults, "power_loss": power_loss}
for words in sys.argv[1:]:
    name, *arguments = words.split()
    sys.argv[1:] = arguments
    try:
        modules[name].main()
    except SystemExit as end:
        assert not end.code, name
"""
FEW = (
    "kill_points --points 2 --writes add",
    "io_faults --faults 3 --writes results",
    "power_loss --cases 2 --writes add",
)
MORE = (
    "kill_points --points 4 --writes add checkpoint",
    "io_faults --faults 6 --writes add results",
    "power_loss --cases 6 --writes remove",
)


@pytest.mark.parametrize(
    ("samples", "trials"),
    [(FEW, [2, 3]), pytest.param(MORE, [4, 6], marks=pytest.mark.slow)],
    ids=["a few", "more"],
)
def test_samples_of_disturbed_writes_hold(samples, trials):
    command = [sys.executable, "-c", SAMPLES, *samples]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [conclusion for line in done.stdout.splitlines() if (conclusion := read_conclusion([line]))]
    assert [what for _, _, what in found] == ["kills", "faults", "power losses"]
    assert all(held == total for held, total, _ in found)
    assert [total for _, total, _ in found][:2] == trials


def test_parts_that_are_done_are_not_run_again_and_stand_in_the_table(tmp_path):
    command = [sys.executable, "-m", "tests.campaign", "--parts", "kill_edits", "--scale", "0.013"]
    command += ["--output", str(tmp_path / "campaign.jsonl")]
    first, second = (subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False) for _ in range(2))
    assert first.returncode == 0, first.stdout + first.stderr
    assert second.stdout == first.stdout
    assert "| F1 kill_edits | 2 kills of edits | 2 | yes |" in first.stdout
    assert int(re.search(r"edits acknowledged (\d+)", first.stdout)[1]) > 0
    assert len((tmp_path / "campaign.jsonl").read_text().splitlines()) == 1


def test_a_conclusion_is_read_back_and_a_part_that_broke_off_has_none():
    assert read_conclusion(["chatter", "3 of 4 kills of edits held"]) == (3, 4, "kills of edits")
    assert read_conclusion(["Traceback"]) is read_conclusion([]) is None
    assert (bound(300), bound(0)) == ("1.00%", "-")
