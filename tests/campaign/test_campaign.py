from tests.campaign import kill_edits, mutations


def test_a_sample_of_mutated_files_gives_no_traceback_and_no_other_answer():
    assert not mutations.faults(mutations.run(80, 1, list(mutations.KINDS)))


def test_a_killed_edit_is_made_or_not_made(tmp_path):
    counts = kill_edits.survive(tmp_path, 2, 5)
    assert (counts["kills"], counts["wrong memories"], counts["failed checks"]) == (2, 0, 0)
    assert counts["edits acknowledged"] > 0
