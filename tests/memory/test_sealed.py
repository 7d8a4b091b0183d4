import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.sealed import seal, unseal

values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(st.text(max_size=4).filter(lambda key: key != "sha256"), values, max_size=4)


@given(bodies)
def test_what_was_sealed_comes_back(body):
    assert unseal(seal(body)) == body
    assert seal(dict(reversed(body.items()))) == seal(body)


@given(bodies, st.data())
def test_any_changed_byte_is_noticed(body, data):
    sealed = bytearray(seal(body))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ValueError, match=r"changed since it was written|not sealed JSON"):
        unseal(bytes(sealed))


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"{}", b'{"a": 1}', b"[" * 100_000, b'{"sha256": 1}'])
def test_other_content_is_refused(data):
    with pytest.raises(ValueError, match=r"changed|not sealed"):
        unseal(data)
