import json
import random
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rerank.base import Candidate
from rerank.parse import MAX_CHARACTERS, Parsed, Unreadable, parse_list
from rerank.prompt import NAME_CHARACTERS, list_text, shown

NAMES = ["cat", "tabby cat", "cat food", "red fox", "Jack-o'-lantern", "Bird, large", "747"]
CAT, TABBY, FOOD, FOX, JACK, BIRD, JET = range(len(NAMES))

READABLE = [
    ("['red fox', 'cat', 'tabby cat']", [FOX, CAT, TABBY]),
    ('["red fox", "cat", "tabby cat"]', [FOX, CAT, TABBY]),
    ("['red fox','cat','tabby cat',]", [FOX, CAT, TABBY]),
    ("['red fox', \"Jack-o'-lantern\", 'Bird, large']", [FOX, JACK, BIRD]),
    ("['red fox', 'Jack-o\\'-lantern', 'cat']", [FOX, JACK, CAT]),
    ("[\n  'red fox',\n  'cat'\n]", [FOX, CAT]),
    ('["red fox", "c\\u0061t", "\\x37\\x34\\x37"]', [FOX, CAT, JET]),
    ("['red fox']", [FOX]),
    ('```json\n["red fox", "cat"]\n```', [FOX, CAT]),
    ('{"ranking": ["red fox", "cat"]}', [FOX, CAT]),
    ("[['red fox', 'cat', 'tabby cat']]", [FOX, CAT, TABBY]),
    ("Sure! It is no cat, but here you are: ['red fox', '747']. The cat, I left out.", [FOX, JET]),
    ("<think>['cat', 'red fox', '747'], hm</think>\n['red fox']", [FOX]),
    ("<think>Is what follows </think> read? Then ['cat'].</think>['red fox']", [FOX]),
    ("['cat food', 'cat', 'tabby cat']", [FOOD, CAT, TABBY]),
    ("['red fox', 'wild cat', 'cat']", [FOX, CAT]),
    ("['red fox', 'cat', 'red fox', 'cat']", [FOX, CAT]),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "order"), READABLE)
def test_list_is_read_and_completed_in_the_order_of_the_prompt(reply, order):
    parsed = parse_list(reply, NAMES)
    assert isinstance(parsed, Parsed), parsed
    assert list(parsed.order[: parsed.matched]) == order
    assert list(parsed.order[parsed.matched :]) == [row for row in range(len(NAMES)) if row not in order]


UNREADABLE = [
    ("", "empty reply"),
    (" \n ", "empty reply"),
    ("<think>['cat', 'red fox']</think> ", "empty reply"),
    ("I think it is a red fox.", "no list of quoted names"),
    ("The image most likely shows cat, then tabby cat, red fox, 747.", "no list of quoted names"),
    ("The order is 'red fox', 'cat', '747'.", "no list of quoted names"),
    ("red fox, cat, tabby cat", "no list of quoted names"),
    ("1. red fox\n2. cat\n3. tabby cat", "no list of quoted names"),
    ("- 'red fox'\n- 'cat'", "no list of quoted names"),
    ("[red fox, cat, tabby cat]", "no list of quoted names"),
    ("['red fox', cat]", "no list of quoted names"),
    ("['red fox' 'cat']", "no list of quoted names"),
    ("['red fox', 'cat'", "no list of quoted names"),
    ("'red fox', 'cat']", "no list of quoted names"),
    ("['red fox', 'ca", "no list of quoted names"),
    ("('red fox', 'cat')", "no list of quoted names"),
    ("[‘red fox’, ‘cat’]", "no list of quoted names"),
    ("['red fox', 'Jack-o'-lantern']", "no list of quoted names"),
    ('{"red fox": 0.9, "cat": 0.1}', "no list of quoted names"),
    ("[]", "no list of quoted names"),
    ("['red fox'], ['cat']", "several lists"),
    ("From ['cat', 'red fox'] I sort ['red fox', 'cat']", "several lists"),
    ("['dog', 'wolf']", "no known name"),
    ("['Red Fox', 'CAT']", "no known name"),
    ("['a red fox', '1. cat']", "no known name"),
    ("['red fox, cat']", "no known name"),
    ("x" * MAX_CHARACTERS + "['red fox', 'cat']", "no list of quoted names"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "reason"), UNREADABLE)
def test_reply_of_another_shape_is_unreadable(reply, reason):
    assert parse_list(reply, NAMES) == Unreadable(reason)


@pytest.mark.parametrize(
    ("reply", "reasons"),
    [
        (json.dumps(NAMES), ()),
        ("['red fox', 'dog', 'wolf', 'cat', 'cat']", ("unknown 2", "repeated 1", "left out 5")),
        ("['red fox']", ("left out 6",)),
    ],
)
def test_faults_of_a_list_are_counted(reply, reasons):
    assert parse_list(reply, NAMES).reasons == reasons


def test_equal_names_are_taken_in_order_and_spelling_counts():
    assert parse_list("['crane', 'dove', 'crane', 'crane']", ["crane", "dove", "crane"]) == Parsed(
        (0, 1, 2), 3, ("repeated 1",)
    )
    assert parse_list("['crane', 'dove', 'Crane']", ["Crane", "dove", "crane"]).order == (2, 1, 0)


def test_name_that_ends_thoughts_is_still_read():
    assert parse_list("['b', '</think>']", ["</think>", "b"]).order == (1, 0)


def test_no_names():
    assert parse_list("['cat']", []) == Unreadable("no known name")


@settings(max_examples=300)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
        | st.text("'\"[], ab\\1.-", min_size=1, max_size=12),
        min_size=1,
        max_size=8,
        unique_by=lambda name: shown(name, NAME_CHARACTERS),
    ),
    st.randoms(),
    st.sampled_from([json.dumps, lambda items: json.dumps(items, ensure_ascii=False), lambda items: str(list(items))]),
)
@example(["a", "b", "a', 'b", '["b"]'], random.Random(0), json.dumps)
@example(["🦊 fox", "fox"], random.Random(0), json.dumps)
def test_list_of_any_names_is_read_exactly(texts, order, write):
    names = [name for text in texts if (name := shown(text, NAME_CHARACTERS))]
    if not names:
        return
    wanted = list(range(len(names)))
    order.shuffle(wanted)
    wanted = wanted[: order.randint(1, len(names))]
    parsed = parse_list(f"Here: {write([names[row] for row in wanted])} done", names)
    assert isinstance(parsed, Parsed)
    assert list(parsed.order[: parsed.matched]) == wanted


def test_the_prompt_itself_is_read_in_the_order_it_shows():
    """The prompt has two lists: the names, and the form of the answer."""
    candidates = [Candidate("cat"), Candidate('the "big" one', group="dog"), Candidate("Bird, large")]
    names = [shown(candidate.title, NAME_CHARACTERS) for candidate in candidates]
    prompt = list_text(candidates)
    assert parse_list(prompt, names) == Unreadable("several lists")
    assert parse_list(prompt[: prompt.index("Answer")], names[::-1]).order == (2, 1, 0)


OPENINGS = ["The image most likely shows", "I would rank", "This is not", "My order:", "From best to worst,", "Answer:"]
JOINTS = [", ", ", then ", " and ", "; ", " > ", "\n", " or ", "', '", '" "', "\n- ", "\n2. ", " [sic], ", "] ["]
QUOTES = ["{}", "'{}'", '"{}"', "**{}**", "[{}]", "({})", "`{}`", "a {}", "{} (0.9)"]
ENDINGS = [".", "", "!", "\nLet me know if you need more.", ", for it has 'whiskers' and a [long] tail.", "]", "'"]


def prose(rng):
    """Names in a sentence, a line, or a numbered list, with quotes and brackets but never a list of quoted names."""
    names = [rng.choice(QUOTES).format(name) for name in rng.sample(NAMES, rng.randint(1, len(NAMES)))]
    text = rng.choice(OPENINGS) + " " + rng.choice(JOINTS).join(names) + rng.choice(ENDINGS)
    return text


def test_prose_that_mentions_names_is_never_a_ranking():
    rng = random.Random(0)
    replies = {prose(rng) for _ in range(2500)}
    # Sentences into which chance has put a list, such as "['cat']", are not prose.
    replies = {reply for reply in replies if not re.search(r"\[\s*(['\"]).*\1\s*\]", reply)}
    assert len(replies) > 2000
    for reply in replies:
        assert isinstance(parse_list(reply, NAMES), Unreadable), reply


def mutated(reply, rng):
    """Cut, double, turn or disturb a reply at random."""
    at, to = sorted(rng.randrange(len(reply) + 1) for _ in range(2))
    junk = "".join(chr(rng.choice([rng.randrange(128), rng.randrange(0x110000)])) for _ in "123")
    return rng.choice(
        [
            reply[:at] + reply[to:],
            reply[:to] + reply[at:],
            reply[to:] + reply[at:to] + reply[:at],
            reply[:at] + junk + reply[at:],
            reply[:at] + rng.choice("[]{}()'\",.:;-\n\\ >*`0") * rng.randint(1, 9) + reply[at:],
        ]
    )


def test_junk_gives_a_permutation_or_unreadable():
    rng = random.Random(0)
    kinds = {Parsed: 0, Unreadable: 0}
    for _ in range(3000):
        reply = rng.choice([*READABLE, *UNREADABLE[:-1]])[0]
        for _ in range(rng.randint(1, 3)):
            reply = mutated(reply, rng)
        names = rng.sample(NAMES, rng.randint(1, len(NAMES)))
        parsed = parse_list(reply, names)
        kinds[type(parsed)] += 1
        if isinstance(parsed, Parsed):
            assert sorted(parsed.order) == list(range(len(names)))
            assert 1 <= parsed.matched <= len(names)
        else:
            assert parsed.reason.isprintable()
    assert min(kinds.values()) > 200


@pytest.mark.timing
@pytest.mark.parametrize(
    "piece", ["[", "['a',", "['[', ", "['", "['\"", "[ ", "[\\", "['a'] ", "[\"[',\",'", "\\", " "]
)
def test_ten_megabytes_are_read_in_a_second(piece):
    reply = piece * (10_000_000 // len(piece))
    started = time.perf_counter()
    parse_list(reply, NAMES)
    parse_list("['cat', 'red fox']" + reply, NAMES)
    assert time.perf_counter() - started < 1
