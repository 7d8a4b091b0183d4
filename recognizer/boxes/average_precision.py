"""Average precision of detections, as COCO and LVIS define it, by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# As LVIS counts (https://www.lvisdataset.org/challenge); COCO counts 100.
_LVIS_DETECTIONS = 300
_NAMES = {
    "AP": "AP_all",
    "AP50": "AP_50",
    "AP75": "AP_75",
    "APs": "AP_small",
    "APm": "AP_medium",
    "APl": "AP_large",
    "APr": "APr",
    "APc": "APc",
    "APf": "APf",
}


def average_precision(
    dataset: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, lvis: bool = False
) -> dict[str, float | None]:
    """Compare detections with annotations.

    Args:
        dataset: images, annotations and categories in COCO's form.
        results: COCO results; those of images that the dataset lacks are left out.
        lvis: whether rules and frequencies are those of LVIS: where an image was not searched for a category, its
            detections do not count.

    Returns:
        AP over IoU 0.5 to 0.95, AP50, AP75, and APs, APm, APl by area (32² and 96² pixels); with `lvis` also APr, APc
        and APf by frequency. Each is in [0, 1], or None where there is no such object.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    known = {image["id"] for image in dataset["images"]}
    truth = COCO({name: [dict(each) for each in dataset[name]] for name in ("images", "annotations", "categories")})
    found = truth.loadRes([dict(result) for result in results if result["image_id"] in known])
    evaluator = COCOeval_faster(truth, found, "bbox", lvis_style=lvis, print_function=lambda *_: None)
    if lvis:
        evaluator.params.maxDets = [_LVIS_DETECTIONS]
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    figures = evaluator.stats_as_dict
    values = {name: float(figures[theirs]) for name, theirs in _NAMES.items() if theirs in figures}
    return {name: None if value < 0 else value for name, value in values.items()}
