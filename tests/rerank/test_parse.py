import json
import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rerank.base import Candidate
from rerank.parse import MOST_CHARACTERS, Parsed, Unreadable, parse_list
from rerank.prompt import NAME_CHARACTERS, list_text, shown

NAMES = ["cat", "tabby cat", "cat food", "red fox", "Jack-o'-lantern", "Bird, large", "747"]
CAT, TABBY, FOOD, FOX, JACK, BIRD, JET = range(len(NAMES))

READABLE = [
    # as asked
    ("['red fox', 'cat', 'tabby cat']", [FOX, CAT, TABBY]),
    ('["red fox", "cat", "tabby cat"]', [FOX, CAT, TABBY]),
    ("['red fox','cat','tabby cat',]", [FOX, CAT, TABBY]),
    ("['red fox', \"Jack-o'-lantern\", 'Bird, large']", [FOX, JACK, BIRD]),
    ("['red fox', 'Jack-o\\'-lantern', 'cat']", [FOX, JACK, CAT]),
    ("[\n  'red fox',\n  'cat'\n]", [FOX, CAT]),
    ('["red fox", "c\\u0061t"]', [FOX, CAT]),
    ("['1. red fox', '2. cat', '3. Bird, large']", [FOX, CAT, BIRD]),
    ("['a red fox', 'the cat', '747 (jet)']", [FOX, CAT, JET]),
    ("['red fox', 'a cat']", [FOX, CAT]),
    # quotes
    ("['red fox', 'Jack-o'-lantern', 'Bird, large', 'cat']", [FOX, JACK, BIRD, CAT]),
    ("[‘red fox’, ‘Jack-o’-lantern’, ‘cat’]", [FOX, JACK, CAT]),
    ("“red fox”, “cat”, “Bird, large”", [FOX, CAT, BIRD]),
    ("[red fox, cat, tabby cat]", [FOX, CAT, TABBY]),
    ("[`red fox`, `cat`]", [FOX, CAT]),
    ("['red fox' 'cat' 'tabby cat']", [FOX, CAT, TABBY]),
    ("'red fox, cat, tabby cat'", [FOX, CAT, TABBY]),
    ("['red fox\", 'cat', tabby cat]", [FOX, CAT, TABBY]),
    # brackets
    ("'red fox', 'cat']", [FOX, CAT]),
    ("['red fox', 'cat'", [FOX, CAT]),
    ("['red fox'], ['cat'], ['tabby cat']", [FOX, CAT, TABBY]),
    ("[['red fox', 'cat', 'tabby cat']]", [FOX, CAT, TABBY]),
    ("('red fox', 'cat')", [FOX, CAT]),
    ("{red fox, cat}", [FOX, CAT]),
    # lines
    ("1. red fox\n2. cat\n3. tabby cat", [FOX, CAT, TABBY]),
    ("1) Red Fox\r\n2) Cat\r\n3) Cat food", [FOX, CAT, FOOD]),
    ("(a) red fox\n(b) cat", [FOX, CAT]),
    ("1. red fox 2. cat 3. tabby cat", [FOX, CAT, TABBY]),
    ("1. 747\n2. cat", [JET, CAT]),
    ("- red fox\n- cat\n- 747", [FOX, CAT, JET]),
    ("* **red fox**\n* **cat**", [FOX, CAT]),
    ("• red fox\n• Bird, large\n• cat", [FOX, BIRD, CAT]),
    ("red fox\ncat\ntabby cat\n", [FOX, CAT, TABBY]),
    ("**1. Red fox** - its fur is red, like a cat\n**2. Cat** - whiskers, tabby cat", [FOX, CAT]),
    ("1. red fox: an animal, not a cat\n2. cat food: edible", [FOX, FOOD]),
    ("| red fox | cat |", [FOX, CAT]),
    # one line
    ("red fox, cat, tabby cat", [FOX, CAT, TABBY]),
    ("red fox; cat; 747", [FOX, CAT, JET]),
    ("red fox > cat > tabby cat", [FOX, CAT, TABBY]),
    ("red fox → cat → tabby cat", [FOX, CAT, TABBY]),
    ("red fox, cat, and tabby cat.", [FOX, CAT, TABBY]),
    ("a red fox and a cat", [FOX, CAT]),
    ("red fox (0.9), cat (0.05), 747 (0.01)", [FOX, CAT, JET]),
    ("red fox: 90%, cat: 5%", [FOX, CAT]),
    ("Red fox.", [FOX]),
    ("Answer: red fox", [FOX]),
    # JSON
    ('```json\n["red fox", "cat"]\n```', [FOX, CAT]),
    ('{"ranking": ["red fox", "cat"]}', [FOX, CAT]),
    ('{"1": "red fox", "2": "cat"}', [FOX, CAT]),
    ('{"red fox": 0.9, "cat": 0.1}', [FOX, CAT]),
    ('[{"category": "red fox", "score": 0.9}, {"category": "cat", "score": 0.1}]', [FOX, CAT]),
    # prose around
    ("Sure! It is no cat, but here you are: ['red fox', '747']. The cat, I left out.", [FOX, JET]),
    ("From ['cat', 'red fox', '747'] I sort: ['red fox', '747', 'cat']", [FOX, JET, CAT]),
    ("<think>['cat', 'red fox', '747'], hm</think>\n['red fox']", [FOX]),
    ("Here is the ranking:\n\n1. red fox\n2. cat\n\nLet me know if you need more!", [FOX, CAT]),
    ("The order is red fox, cat, tabby cat.", [FOX, CAT, TABBY]),
    ("I would rank red fox, cat, 747", [FOX, CAT, JET]),
    ("I'd say red fox, then cat", [FOX, CAT]),
    # names
    ("['RED FOX', 'Tabby  Cat', 'cat_food']", [FOX, TABBY, FOOD]),
    ("['ｒｅｄ ｆｏｘ', 'cat']", [FOX, CAT]),
    ("[red\u00a0fox, cat\u200b]", [FOX, CAT]),
    ("['red fox', 'Jack‐o’‐lantern']", [FOX, JACK]),
    ("['cat food', 'cat', 'tabby cat']", [FOOD, CAT, TABBY]),
    ("cat food, tabby cat, cat", [FOOD, TABBY, CAT]),
    ("Bird, large, cat", [BIRD, CAT]),
    ("[bird, large; cat]", [BIRD, CAT]),
    # wrong names
    ("['red fox', 'wild cat', 'cat']", [FOX, CAT]),
    ("[red fox, wild cat, cats, tabby cat]", [FOX, TABBY]),
    ("['red fox', 'cat', 'red fox', 'cat']", [FOX, CAT]),
    # cut
    ("['red fox', 'cat', 'tab", [FOX, CAT, TABBY]),
    ("1. red fox\n2. cat\n3. Jack-o", [FOX, CAT, JACK]),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "order"), READABLE)
def test_reply_is_read(reply, order):
    found = parse_list(reply, NAMES)
    assert isinstance(found, Parsed), found
    assert list(found.order[: found.matched]) == order
    assert list(found.order[found.matched :]) == [row for row in range(len(NAMES)) if row not in order]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty reply"),
        (" \n\u200b ", "empty reply"),
        ("I think it is a red fox.", "names only in prose"),
        ("This is not a cat.", "names only in prose"),
        ("The cat sat near the tabby cat that ate", "names only in prose"),
        ("I am sorry, I cannot help with that.", "no known name"),
        ("['dog', 'wolf']", "no known name"),
        ("[]", "no known name"),
        ("[category A, category B]", "no known name"),
        ("catalogue, scat", "no known name"),
    ],
)
def test_reply_without_a_list_is_unreadable(reply, reason):
    assert parse_list(reply, NAMES) == Unreadable(reason)


@pytest.mark.parametrize(
    ("reply", "reasons"),
    [
        (json.dumps(NAMES), ()),
        ("['red fox', 'dog', 'wolf', 'cat', 'cat']", ("unknown 2", "repeated 1", "left out 5")),
        ("[red fox, dog, wolf, cat, cat]", ("unknown 2", "repeated 1", "left out 5")),
        ("[dog, red fox, cat, wolf]", ("unknown 2", "left out 5")),
        ("red fox, dog, cat", ("no brackets", "unknown 1", "left out 5")),
        ("[red fox, cat", ("one bracket", "left out 5")),
        ("red fox, cat]", ("one bracket", "left out 5")),
        ("[red fox", ("one bracket", "left out 6")),
        ("red fox, cat, j", ("no brackets", "left out 5")),
        ("[red fox, cat, tab", ("one bracket", "cut 1", "left out 4")),
        ("1. red fox (90%)\n2. cat: 5%", ("no brackets", "left out 5")),
        ("['red fox', 'cat']" + "x" * MOST_CHARACTERS, ("left out 5", "too long")),
    ],
)
def test_what_was_mended_is_counted(reply, reasons):
    assert parse_list(reply, NAMES).reasons == reasons


def test_bad_reply_after_a_good_one_does_not_get_its_order():
    assert parse_list("['red fox', 'cat']", NAMES).order[:2] == (FOX, CAT)
    assert parse_list("I think it is a fox.", NAMES) == Unreadable("no known name")
    assert parse_list("The red fox it is.", NAMES) == Unreadable("names only in prose")


def test_names_equal_but_for_case_keep_their_spelling_and_else_their_order():
    names = ["Crane", "dove", "crane"]
    assert parse_list("['crane', 'dove', 'Crane']", names).order == (2, 1, 0)
    assert parse_list("CRANE, crane, dove", names).order == (0, 2, 1)
    assert parse_list("CRANE, crane, crane", names).reasons == ("no brackets", "repeated 1", "left out 1")


def test_names_that_look_like_numbers_or_letters():
    digits = [str(digit) for digit in range(10)]
    assert parse_list("1. 7\n2. 1\n3. 4", digits).order[:3] == (7, 1, 4)
    assert parse_list("[7, 1, 4]", digits).order[:3] == (7, 1, 4)
    assert parse_list("a) b\nb) c\nc) a", ["a", "b", "c"]).order == (1, 2, 0)


def test_name_that_the_prompt_cut_is_read_with_and_without_the_ellipsis():
    long = shown("very " * 40 + "long", NAME_CHARACTERS)
    assert long.endswith("…")
    for written in (long, long[:-1].strip(), long[:-1] + "..."):
        assert parse_list(f"['cat', '{written}']", ["x", long, "cat"]).order == (2, 1, 0)
        assert parse_list(f"1. cat\n2. {written}", ["x", long, "cat"]).order == (2, 1, 0)
    assert parse_list("1. cat\n2. very very v", ["x", long, "cat"]).order == (2, 1, 0)
    assert parse_list("['cat', 'very", ["x", long, "very old", "cat"]).order == (3, 0, 1, 2)


def test_bracket_inside_a_name_ends_no_list():
    assert parse_list("[x y, a] b, c], z", ["z", "c", "a] b", "x y"]).order == (3, 2, 1, 0)
    assert parse_list("[x y, a] b, c], z", ["z", "c", "a] b", "x y"]).matched == 3


def test_no_names_and_names_of_nothing():
    assert parse_list("['cat']", []) == Unreadable("no known name")
    assert parse_list("cat", ["\u200b", "\\", "cat"]).order == (2, 0, 1)


def python_style(items):
    return str(list(items))


def raw_single(items):
    return "[" + ", ".join(f"'{item}'" for item in items) + "]"


def curly(items):
    return ", ".join(f"“{item}”" for item in items)


def numbered(items):
    return "Here you are:\n" + "\n".join(f"{n}. {item}" for n, item in enumerate(items, 1))


def bullets(items):
    return "\n".join(f"- {item}" for item in items)


def plain_lines(items):
    return "\n".join(items).upper()


def semicolons(items):
    return "[" + "; ".join(items) + "]"


def one_bracket(items):
    return ", ".join(f'"{item}"' for item in items) + "]"


def commas(items):
    return ", ".join(items)


def json_dict(items):
    return json.dumps({str(n): item for n, item in enumerate(items, 1)}, ensure_ascii=False)


WORDS = [
    "cat", "tabby cat", "cat food", "food", "Jack-o'-lantern", "Bird, large", "Bird", "large bird", "747", "A320",
    "St. Bernard", "black and white", "crane (bird)", "crane (machine)", "crane", "[sic] fox", "R&B", "café", "Straße",
    "colt's foot", "'salem's lot", "AC/DC", "3D glasses", "Mr. T", "dogs' home", "x: the movie",
    "ignore the above, fox", "犬", "C++", "rock 'n' roll", "B-52", "U.S. flag", "7 Up", "-40 degrees", "#1 dad",
    "what?", "it’s", "!important",
]  # fmt: skip
STYLES = [python_style, raw_single, curly, numbered, bullets, plain_lines, semicolons, one_bracket, commas, json_dict]


@settings(max_examples=400, deadline=None)
@given(st.data(), st.sampled_from(STYLES))
def test_any_order_in_any_style_is_read_back(data, style):
    names = data.draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=12, unique=True))
    wanted = data.draw(st.permutations(range(len(names))))[: data.draw(st.integers(2, len(names)))]
    found = parse_list(style([names[row] for row in wanted]), names)
    assert isinstance(found, Parsed)
    assert list(found.order[: found.matched]) == list(wanted)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
        | st.text("'\"[], ab\\1.-", min_size=1, max_size=12),
        min_size=1,
        max_size=8,
        unique_by=lambda name: shown(name, NAME_CHARACTERS).strip(),
    ),
    st.randoms(),
    st.sampled_from([json.dumps, lambda items: json.dumps(items, ensure_ascii=False), python_style]),
)
@example(["a", "b", "a', 'b", '["b"]'], random.Random(0), json.dumps)
@example(["🦊 fox", "fox"], random.Random(0), json.dumps)
def test_well_formed_list_of_any_names_is_read_exactly(texts, order, write):
    names = [name for text in texts if (name := shown(text, NAME_CHARACTERS))]
    wanted = list(range(len(names)))
    order.shuffle(wanted)
    wanted = wanted[: order.randint(2, max(len(names), 2))]
    found = parse_list(f"Here: {write([names[row] for row in wanted])} done", names)
    if names:
        assert list(found.order[: found.matched]) == wanted


def test_the_prompt_itself_is_read_in_the_order_it_shows():
    candidates = [Candidate("cat"), Candidate('the "big" one', group="dog"), Candidate("Bird, large")]
    names = [shown(candidate.title, NAME_CHARACTERS) for candidate in candidates]
    assert parse_list(list_text(candidates), names[::-1]).order == (2, 1, 0)


def mutated(reply, rng):
    kind = rng.randrange(6)
    at, to = sorted(rng.randrange(len(reply) + 1) for _ in range(2))
    if kind == 0:
        return reply[:at] + reply[to:]
    if kind == 1:
        return reply[:to] + reply[at:]
    if kind == 2:
        return reply[to:] + reply[at:to] + reply[:at]
    if kind == 3:
        return reply[:at]
    if kind == 4:
        junk = "".join(
            chr(rng.choice([rng.randrange(128), rng.randrange(0xD800), rng.randrange(0x110000)])) for _ in "12345"
        )
        return reply[:at] + junk + reply[at:]
    return reply[:at] + rng.choice("[]{}()'\",.:;-\n\\ >*`0") * rng.randint(1, 40) + reply[at:]


def test_junk_gives_a_permutation_or_unreadable():
    rng = random.Random(0)
    kinds = {Parsed: 0, Unreadable: 0}
    for _ in range(5000):
        reply = rng.choice(READABLE)[0]
        for _ in range(rng.randint(1, 6)):
            reply = mutated(reply, rng)
        names = rng.sample(NAMES, rng.randint(1, len(NAMES)))
        found = parse_list(reply, names)
        kinds[type(found)] += 1
        if isinstance(found, Parsed):
            assert sorted(found.order) == list(range(len(names)))
            assert 1 <= found.matched <= len(names)
        else:
            assert found.reason.isprintable()
        assert found == parse_list(reply, names)
    assert kinds[Parsed] > 1000
    assert kinds[Unreadable] > 200


@pytest.mark.parametrize(
    "piece",
    [
        "[",
        "['a',",
        "['[', ",
        "'",
        " ",
        "\n",
        "1. ",
        "cat, ",
        "cat cat ",
        "((",
        "[cat] ",
        "\\",
        '["',
        "cat (",
        "- ",
        "a.b: ",
    ],
)
def test_ten_megabytes_are_read_in_seconds_at_most(piece):
    names = [*NAMES, *(f"number {n}" for n in range(13))]
    started = time.perf_counter()
    parse_list(piece * (10_000_000 // len(piece)), names)
    parse_list("['cat', 'red fox']" + piece * (10_000_000 // len(piece)), names)
    assert time.perf_counter() - started < 3
