from rerank.mllm import MOST_OPTIONS, SYMBOLS, Failure


def test_there_is_a_symbol_for_every_option():
    assert len(set(SYMBOLS)) == len(SYMBOLS) == MOST_OPTIONS
    assert all(len(symbol) == 1 and symbol.isupper() for symbol in SYMBOLS)


def test_a_hint_does_not_tell_failures_apart():
    assert Failure("refused", hint="HTTP 401") == Failure("refused")
    assert Failure("refused", hopeless=True) != Failure("refused")
