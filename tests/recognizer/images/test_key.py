import os

from hypothesis import given
from hypothesis import strategies as st

from recognizer.images import list_images
from recognizer.images.key import display_key, key_base64, key_from_display


def keys(listing):
    return [item.key for item in listing]


path_bytes = st.binary(max_size=30) | st.lists(st.sampled_from([b"\\", b"\\xff", b"\xff", b"x", b"0", b"e9"])).map(
    b"".join
)


def test_any_bytes_in_a_name(tmp_path):
    names = [b"bad_\xff\xfe.jpg", b"bad_\\xff\\xfe.jpg", b"a\nb.jpg", b"x" * 251 + b".jpg", "ש🐈\\.jpg".encode()]
    for name in names:
        open(os.path.join(os.fsencode(tmp_path), name), "wb").close()
    listing = list_images(tmp_path)
    assert len(set(keys(listing))) == len(names)
    assert {item.key_bytes for item in listing} == set(names)
    assert {item.key for item in listing if item.key_base64 is None} == {
        names[2].decode(),
        "ש🐈\\.jpg",
        "x" * 251 + ".jpg",
    }
    assert {item.key for item in listing if item.key_base64} == {"bad_\\xff\\xfe.jpg", "bad_\\\\xff\\\\xfe.jpg"}


@given(path_bytes, path_bytes)
def test_keys_can_be_turned_back_and_are_distinct(first, second):
    key = display_key(first)
    assert key_from_display(key) == first
    assert (key == display_key(second)) == (first == second)
    assert (key_base64(first) is None) == (key.encode() == first)
