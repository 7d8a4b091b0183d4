"""The usual data sets of zero-shot classification, read as they lie on the disk.

Most are read in torchvision's layouts, CUB and ImageNet (V2) from the folders of their archives, and those of CoOp also
in its layout, with a file `split_zhou_NAME.json`. Nothing is downloaded.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memory.errors import printable
from recognizer.benchmark import prompts, readers
from recognizer.benchmark.bench import LayoutError, contents
from recognizer.benchmark.readers import Found, Reader, Split
from recognizer.errors import RecognizerError
from recognizer.images import ImageItem

Metric = Literal["top-1", "mean per class"]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ImageSplit:
    """Images of one split of a data set.

    Attributes:
        classes: (C) names; equal ones are different classes, as in ImageNet.
        items: (N) the images, with paths relative to the folder of the data as keys. They exist as long as this.
        labels: (N) int64 class of each image.
        note: what of the set this is, where it is not its usual split.
    """

    classes: Sequence[str]
    items: Sequence[ImageItem]
    labels: NDArray[np.int64]
    note: str = ""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set and how it is measured.

    Attributes:
        folders: below the folder of the data; the set is there where the first or another one is.
        layout: what is expected in them, for messages.
        read: reads the folder that holds those; None: only CoOp's layout is read.
        templates: CLIP's for this set; None: those of ImageNet.
        metric: what CLIP reports: accuracy, or the mean over the classes of their accuracy.
        descriptions: other names of the set in the names of files of descriptions.
        coop: folder, folder of images and split file in CoOp's layout.
    """

    folders: tuple[str, ...]
    layout: str
    read: Reader | None
    templates: tuple[str, ...] | None
    metric: Metric = "top-1"
    descriptions: tuple[str, ...] = ()
    coop: tuple[str, str, str] | None = None

    @property
    def expected(self) -> str:
        """Say which layouts are read."""
        coop = "{0}/{1} with {0}/{2}".format(*self.coop) if self.coop else ""
        return " or ".join(filter(None, (self.layout, coop)))


def require_known(sets: Sequence[str]) -> None:
    """Refuse names that are none of `DATA_SETS`.

    Raises:
        RecognizerError: there is one; the message lists all names.
    """
    unknown = [name for name in sets if name not in DATA_SETS]
    if unknown:
        raise RecognizerError(f"there is no data set {printable(unknown[0])!r}; there are {', '.join(DATA_SETS)}")


def read_split(
    name: str, data: Path, split: Split, *, prefer: Literal["torchvision", "coop"] = "torchvision"
) -> ImageSplit | None:
    """Read the images of a split.

    Args:
        name: of the set, a key of `DATA_SETS`.
        data: the folder that holds the sets.
        split: "test", or "train" for exemplars. Of a set without splits, "test" is the whole set.
        prefer: which layout to read where both are there. A set to which torchvision knows no split is read in CoOp's
            layout in either case.

    Returns:
        None where the set is not there.

    Raises:
        LayoutError: it is there and cannot be read; the message says what is expected and what is there.
    """
    one = DATA_SETS[name]
    here = next((data / folder for folder in one.folders if (data / folder).is_dir()), None)
    read, place = one.read, here
    wanted = here is None or prefer == "coop" or name in _WITHOUT_SPLIT
    if wanted and one.coop is not None and (data / one.coop[0] / one.coop[2]).is_file():
        read, place = readers.coop_reader(*one.coop), data / one.coop[0]
    if read is None or place is None:
        return None
    try:
        return _with_items(read(data, split), data, name)
    # What torchvision raises for missing, damaged and other files.
    except (RuntimeError, OSError, ValueError, LookupError, TypeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())
        raise LayoutError(
            f"{name} cannot be read: {reason}; expected {one.expected}; {place} has {contents(place)}"
        ) from error


def _with_items(found: Found, data: Path, name: str) -> ImageSplit:
    """Turn paths into items; arrays of pixels are written as PNG files, which go when the split does."""
    items: list[ImageItem] = []
    labels: list[int] = []
    unpacked: str | None = None
    for sample, label in found.samples:
        if isinstance(sample, np.ndarray):
            from PIL import Image

            unpacked = unpacked or tempfile.mkdtemp(prefix="recognizer-")
            path = os.path.join(unpacked, f"{len(items):06d}.png")
            Image.fromarray(sample).save(path, compress_level=1)
            key = f"{name}/{len(items):06d}.png"
        else:
            path = os.path.abspath(sample)
            key = os.path.relpath(path, data).replace(os.sep, "/")
        items.append(ImageItem(os.fsencode(key), os.fsencode(path)))
        labels.append(label)
    if not items:
        raise ValueError("there are no images")
    split = ImageSplit(found.classes, items, np.array(labels, np.int64), found.note)
    if unpacked is not None:
        weakref.finalize(split, shutil.rmtree, unpacked, ignore_errors=True)
    return split


DATA_SETS: Mapping[str, DataSet] = {
    "CIFAR10": DataSet(
        ("cifar-10-batches-py",), "cifar-10-batches-py/data_batch_1", readers.cifar_reader("CIFAR10"), prompts.CIFAR
    ),
    "CIFAR100": DataSet(
        ("cifar-100-python",), "cifar-100-python/train, test, meta", readers.cifar_reader("CIFAR100"), prompts.CIFAR
    ),
    "SUN397": DataSet(
        ("SUN397",),
        "SUN397/ClassName.txt, a/abbey/sun_*.jpg",
        readers.read_sun,
        prompts.PHOTO,
        descriptions=("sun",),
        coop=("sun397", "SUN397", "split_zhou_SUN397.json"),
    ),
    "StanfordCars": DataSet(
        ("stanford_cars",),
        "stanford_cars/devkit/cars_meta.mat, cars_test_annos_withlabels.mat, cars_test",
        readers.read_cars,
        prompts.CARS,
        descriptions=("cars",),
        coop=("stanford_cars", ".", "split_zhou_StanfordCars.json"),
    ),
    "DTD": DataSet(
        ("dtd/dtd",),
        "dtd/dtd/images, labels",
        readers.read_textures,
        prompts.TEXTURES,
        coop=("dtd", "images", "split_zhou_DescribableTextures.json"),
    ),
    "OxfordPets": DataSet(
        ("oxford-iiit-pet",),
        "oxford-iiit-pet/images, annotations",
        readers.read_pets,
        prompts.PET,
        "mean per class",
        descriptions=("pets", "oxfordiiitpets"),
        coop=("oxford_pets", "images", "split_zhou_OxfordPets.json"),
    ),
    "Caltech101": DataSet(
        ("caltech101",),
        "caltech101/101_ObjectCategories with BACKGROUND_Google",
        readers.read_caltech,
        prompts.CALTECH,
        "mean per class",
        descriptions=("caltech",),
        coop=("caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json"),
    ),
    "Flowers102": DataSet(
        ("flowers-102",),
        "flowers-102/jpg, imagelabels.mat, setid.mat",
        readers.read_flowers,
        prompts.FLOWER,
        "mean per class",
        descriptions=("flowers",),
        coop=("oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json"),
    ),
    "CUB": DataSet(
        ("CUB_200_2011",), "CUB_200_2011/images, images.txt, train_test_split.txt", readers.read_birds, prompts.BIRD
    ),
    "Places365": DataSet(
        ("places365",),
        "places365/categories_places365.txt, places365_val.txt, val_256 or val_large",
        readers.read_places,
        prompts.PHOTO,
        descriptions=("places",),
    ),
    "Food101": DataSet(
        ("food-101",),
        "food-101/images, meta",
        readers.read_food,
        prompts.FOOD,
        descriptions=("food",),
        coop=("food-101", "images", "split_zhou_Food101.json"),
    ),
    "FGVCAircraft": DataSet(
        ("fgvc-aircraft-2013b",),
        "fgvc-aircraft-2013b/data/images, variants.txt",
        readers.read_aircraft,
        prompts.AIRCRAFT,
        "mean per class",
        descriptions=("aircraft",),
    ),
    "EuroSAT": DataSet(
        ("eurosat/2750",),
        "eurosat/2750/AnnualCrop",
        readers.read_eurosat,
        prompts.SATELLITE,
        coop=("eurosat", "2750", "split_zhou_EuroSAT.json"),
    ),
    "UCF101": DataSet((), "", None, prompts.ACTION, coop=("ucf101", "UCF-101-midframes", "split_zhou_UCF101.json")),
    "ImageNet": DataSet(("imagenet/val", "imagenet/images/val"), "imagenet/val/n01440764", readers.read_imagenet, None),
    "ImageNetV2": DataSet(
        readers.V2_FOLDERS, f"{readers.V2}/0", readers.read_imagenet_v2, None, descriptions=("imagenet",)
    ),
}
"""By name; the first eleven are GRAIN's."""

GRAIN_SETS = tuple(DATA_SETS)[:11]
"""The sets over which GRAIN averages: those of its `evaluate.py` without ImageNet."""

_WITHOUT_SPLIT = frozenset({"SUN397", "Caltech101", "EuroSAT"})
"""Sets that torchvision reads as a whole."""
