import pytest

from tests.campaign.writers import run


@pytest.mark.parametrize(
    ("writers", "readers", "rounds"), [(2, 1, 3), pytest.param(4, 4, 200, marks=pytest.mark.campaign)]
)
def test_no_addition_is_lost_and_no_reader_sees_damage(tmp_path, writers, readers, rounds):
    counts = run(tmp_path, writers=writers, readers=readers, rounds=rounds)
    assert counts.pop("additions acknowledged") == writers * rounds
    assert counts.pop("openings by readers") > 0
    assert not any(counts.values()), counts
