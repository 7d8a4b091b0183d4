"""AP against pycocotools on made-up sets: ties, empties, crowds, images without anything."""

import contextlib
import io

import numpy as np
import pytest

from recognizer.boxes.average_precision import average_precision

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def make_set(seed, *, ties=False, crowds=False, empties=False):
    rng = np.random.default_rng(seed)
    images = [{"id": 3 * number + 1, "width": 400, "height": 300} for number in range(12)]
    categories = [
        {"id": number, "name": f"n{number}", "frequency": how} for number, how in zip((2, 5, 6, 9), "rcff", strict=True)
    ]
    annotations, results = [], []
    for place, image in enumerate(images):
        objects = 0 if empties and place % 3 == 0 else rng.integers(1, 6)
        for _ in range(objects):
            size = rng.choice([12, 60, 150], size=2) * rng.uniform(0.8, 1.2, 2)
            corner = rng.uniform(0, 200, 2)
            category = int(rng.choice([2, 5, 6] if empties else [2, 5, 6, 9]))  # 9 has no object
            bbox = [*corner.tolist(), *size.tolist()]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": bbox,
                    "area": float(size.prod()),
                    "iscrowd": int(crowds and rng.uniform() < 0.3),
                }
            )
            for _ in range(rng.integers(0, 4)):
                moved = np.array(bbox) + rng.normal(0, 4, 4) * (rng.uniform() < 0.7)
                score = float(rng.choice([0.25, 0.5, 0.75])) if ties else float(rng.uniform())
                results.append(
                    {
                        "image_id": image["id"],
                        "category_id": category if rng.uniform() < 0.7 else int(rng.choice([2, 5, 6, 9])),
                        "bbox": [float(x) for x in np.maximum(moved, 1)],
                        "score": score,
                    }
                )
        if empties and place % 4 == 1:
            results = [result for result in results if result["image_id"] != image["id"]]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def by_pycocotools(dataset, results):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {name: [dict(each) for each in dataset[name]] for name in dataset}
        truth.createIndex()
        found = truth.loadRes([dict(each) for each in results])
        evaluator = COCOeval(truth, found, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return dict(zip(FIGURES, evaluator.stats[:6].tolist(), strict=True))


@pytest.mark.parametrize("kind", ["ties", "crowds", "empties"])
def test_figures_equal_those_of_pycocotools(kind):
    dataset, results = make_set({"ties": 1, "crowds": 2, "empties": 3}[kind], **{kind: True})
    # An image that the annotations lack is left out; pycocotools would refuse it.
    ours = average_precision(dataset, [*results, {**results[0], "image_id": 999}])
    theirs = by_pycocotools(dataset, results)
    assert set(ours) == set(FIGURES)
    for name, value in theirs.items():
        assert (-1 if ours[name] is None else ours[name]) == pytest.approx(value, abs=1e-6)
    assert 0.1 < ours["AP"] < 0.9


def test_no_detections_and_no_objects():
    dataset, results = make_set(4)
    assert average_precision(dataset, [])["AP"] == 0
    assert average_precision({**dataset, "annotations": []}, results)["AP"] is None


def test_lvis_has_figures_by_frequency_and_ignores_what_was_not_searched_for():
    dataset, results = make_set(5)
    plain = average_precision(dataset, results)
    for image in dataset["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    figures = average_precision(dataset, results, lvis=True)
    assert {"APr", "APc", "APf"} <= set(figures)
    assert all(0 <= figures[name] <= 1 for name in ("APr", "APc", "APf"))
    # False alarms in images that were not searched for their category do not count.
    assert figures["AP"] > plain["AP"]
