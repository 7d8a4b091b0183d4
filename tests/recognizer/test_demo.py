import pytest

from tests.recognizer.commands import call


@pytest.mark.usefixtures("encoders_loaded_once")
def test_demo_writes_results_and_a_picture_per_photograph(tmp_path):
    code, out, _ = call("demo", "--output", tmp_path / "demo", "--precision", "fp32")
    assert code == 0
    assert "tabby cat" in out
    assert len(list((tmp_path / "demo" / "pictures").glob("*.png"))) == 12
    assert str((tmp_path / "demo" / "results.jsonl").resolve()) in out
