import pytest

from tests.recognizer.commands import call


@pytest.mark.usefixtures("encoders_loaded_once")
def test_demo_writes_results_a_picture_per_photograph_and_a_report(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    code, out, said = call("demo", "--output", tmp_path / "demo", "--precision", "fp32", "--open")
    assert code == 0
    assert "tabby cat" in out
    assert "the starter encoder knows mostly what ImageNet shows" in said
    assert "--model base" in said
    assert len(list((tmp_path / "demo" / "pictures").glob("*.png"))) == 12
    assert str((tmp_path / "demo" / "results.jsonl").resolve()) in out
    report = (tmp_path / "demo" / "report" / "index.html").resolve()
    assert out.rstrip().endswith(str(report))
    assert opened == [report.as_uri()]
    assert "no browser could be started" in said
    assert len(list((report.parent / "thumbs").iterdir())) == 12
