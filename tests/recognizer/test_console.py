from recognizer.console import note, progress_bar, table, text_progress, user_errors


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
