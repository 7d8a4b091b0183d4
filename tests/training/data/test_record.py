import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.record import BadSample, Region, Rejects, make_record

SIZE_HW = (40, 60)


def record_of(**fields):
    rejects = Rejects()
    return make_record({"captions": ["a dog"], **fields}, SIZE_HW, rejects), rejects


def region(box_xyxy, description="dog", **more):
    return {"box_xyxy": box_xyxy, "description": description, **more}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (region([5, 5, 5, 9]), "box with x1 <= x0 or y1 <= y0"),
        (region([5, 9, 9, 5]), "box with x1 <= x0 or y1 <= y0"),
        (region([5, 5, 62, 9]), "box outside the image"),
        (region([5, 5, 9, 50]), "box outside the image"),
        (region([-8, 5, 9, 9]), "box outside the image"),
        (region([60.2, 5, 60.8, 9]), "box outside the image"),
        (region([5, 5, 9]), "box that is not four numbers"),
        (region([5, 5, 9, float("nan")]), "box that is not four numbers"),
        (region([float("nan")] * 4), "box that is not four numbers"),
        (region([5, 5, 9, float("inf")]), "box that is not four numbers"),
        (region([5, 5, 9, 10**400]), "box that is not four numbers"),
        (region([-(10**400), 5, 9, 9]), "box that is not four numbers"),
        (region([5, 5, 9, 9], score=10**400), "score that is not a number from 0 to 1"),
        (region([5, 5, 9, 9], score=float("nan")), "score that is not a number from 0 to 1"),
        (region([5, 5, 9, True]), "box that is not four numbers"),
        (region("5 5 9 9"), "box that is not four numbers"),
        ({"description": "dog"}, "box that is not four numbers"),
        (region([5, 5, 9, 9], score="high"), "score that is not a number from 0 to 1"),
        (region([5, 5, 9, 9], score=1.5), "score that is not a number from 0 to 1"),
        ({"box_xyxy": [5, 5, 9, 9]}, "region without a description"),
        ("dog", "region that is not an object"),
    ],
)
def test_a_bad_region_is_left_out_under_its_reason(value, reason):
    record, rejects = record_of(regions=[value])
    assert record.regions == ()
    assert dict(rejects.parts) == {reason: 1}
    assert rejects.bad == 0


def test_an_empty_description_is_counted_and_takes_its_box_along():
    record, rejects = record_of(regions=[region([1, 1, 9, 9], "  "), region([2, 2, 9, 9], " cat ")])
    assert record.regions == (Region((2, 2, 9, 9), ("cat",), 1.0),)
    assert dict(rejects.parts) == {"empty description": 1, "region without a description": 1}


BOXES = st.tuples(*(st.integers(-4, 64) for _ in range(4))).map(list)


@given(st.lists(st.tuples(BOXES, st.sampled_from(["", "dog", "cat", "a red car"])), max_size=12))
def test_boxes_and_descriptions_stay_together(pairs):
    record, rejects = record_of(regions=[region(box, f"{text} {box}" if text else "") for box, text in pairs])
    for kept in record.regions:
        x0, y0, x1, y1 = kept.box_xyxy
        assert 0 <= x0 < x1 <= SIZE_HW[1]
        assert 0 <= y0 < y1 <= SIZE_HW[0]
        for description in kept.descriptions:
            written = json.loads(description[description.index("[") :])
            assert max(abs(a - b) for a, b in zip(written, kept.box_xyxy, strict=True)) <= 1
    given_regions = {(tuple(box), text) for box, text in pairs if text}
    kept_texts = sum(len(kept.descriptions) for kept in record.regions)
    faulty = sum(count for reason, count in rejects.parts.items() if reason != "empty description")
    assert kept_texts <= len(given_regions)
    assert kept_texts + faulty >= len(given_regions)
    assert len({kept.box_xyxy for kept in record.regions}) == len(record.regions)


def test_descriptions_of_one_box_share_it():
    values = [region([1, 1, 9, 9], "dog", score=0.3), region([1, 1, 9, 9], "puppy", score=0.7)]
    record, _ = record_of(regions=[*values, region([1, 1, 9, 9], "dog")])
    assert record.regions == (Region((1, 1, 9, 9), ("dog", "puppy"), 1.0),)


def test_a_box_that_sticks_out_by_rounding_is_clipped():
    record, rejects = record_of(regions=[region([-0.4, 3, 60.6, 40.9])])
    assert record.regions[0].box_xyxy == (0, 3, 60, 40)
    assert not rejects.parts


def test_one_empty_caption_of_two_is_left_out():
    record, rejects = record_of(captions=["", "a dog"])
    assert record.captions == ("a dog",)
    assert dict(rejects.parts) == {"empty caption": 1}


def test_a_caption_that_no_tokenizer_takes_is_left_out():
    record, rejects = record_of(captions=["a dog", "half a character: \ud800"])
    assert record.captions == ("a dog",)
    assert dict(rejects.parts) == {"caption that is not Unicode text": 1}


@pytest.mark.parametrize("fields", [{}, {"captions": []}, {"captions": [" ", 3]}, {"caption": ""}, {"captions": None}])
def test_a_sample_without_a_caption_is_bad(fields):
    with pytest.raises(BadSample, match=r"^no caption$"):
        make_record(fields, SIZE_HW, Rejects())


def test_rejects_add_up_report_and_come_back():
    first, second = Rejects(seen=5), Rejects(seen=3)
    first.samples["not JSON"] += 1
    second.samples.update({"not JSON": 1, "missing image": 1})
    second.parts["empty caption"] += 2
    first.add(second)
    assert first.report() == (
        "3 of 8 samples could not be used: not JSON 2, missing image 1; left out of the others: empty caption 2"
    )
    assert Rejects.from_json(json.loads(json.dumps(first.to_json()))) == first
