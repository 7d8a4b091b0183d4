from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.annotation.replies import read_caption, read_features, read_subject


@pytest.mark.parametrize(
    ("reply", "caption", "reason"),
    [
        ('{"caption": "A bird\\non a branch."}', "A bird on a branch.", None),
        ('```json\n{"caption": "A bird."}\n```', "A bird.", None),
        ("A bird on a branch.", "A bird on a branch.", None),
        ('{"caption": "A \\ud800bird."}', "A bird.", None),
        ('{"caption": "A bird', None, "caption: unreadable reply"),
        ('{"caption": ["A bird."]}', None, "caption: unreadable reply"),
        ("I'm sorry, I cannot help with that.", None, "caption: refused"),
        ('{"caption": "As an AI, I see nothing."}', None, "caption: refused"),
        ("word " * 81, None, "caption: more than 80 words"),
        ("", None, "caption: unreadable reply"),
    ],
)
def test_captions(reply, caption, reason):
    counts = Counter()
    assert read_caption(reply, counts) == caption
    assert counts == ({reason: 1} if reason else {})


@pytest.mark.parametrize(
    ("reply", "subject", "reason"),
    [
        ('{"subject": "a Snowy owl."}', "Snowy owl", None),
        ("The kingfisher", "kingfisher", None),
        ('{"subject": "None"}', None, "image without a subject"),
        ('{"subject": null}', None, "subject: unreadable reply"),
        ('{"subject": " . "}', None, "subject: unreadable reply"),
        ("I cannot tell.", None, "subject: refused"),
        ("It could be a bird, or perhaps a small plane", None, "subject: more than 6 words"),
    ],
)
def test_subjects(reply, subject, reason):
    counts = Counter()
    assert read_subject(reply, counts) == subject
    assert counts == ({reason: 1} if reason else {})


@pytest.mark.parametrize(
    ("reply", "found", "reason"),
    [
        ('{"descriptions": ["red tail", 3, "white wing"]}', ["red tail", "white wing"], None),
        ("Here you are:\n- red tail\n* white wing\n 2. beak\n", ["red tail", "white wing", "beak"], None),
        ("A lovely bird with many colours.", [], "descriptions: unreadable reply"),
        ('{"descriptions": "red tail"}', ["red tail"], None),
        ('<think>["no"]</think> (1) red tail', ["red tail"], None),
        ("Sorry, no.", [], "descriptions: refused"),
    ],
)
def test_features(reply, found, reason):
    counts = Counter()
    assert read_features(reply, counts) == found
    assert counts == ({reason: 1} if reason else {})


@settings(max_examples=30)
@given(st.text() | st.text().map(lambda text: '{"caption": ' + text) | st.just("{" * 20_000 + "}"))
def test_any_reply_is_read(reply):
    for read in (read_caption, read_subject, read_features):
        read(reply, Counter())
