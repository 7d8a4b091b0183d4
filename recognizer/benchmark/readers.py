"""Readers of the usual data sets: the paths of their images with numbers and names of classes.

Most are torchvision's, in its layouts, without a download. Each function takes the folder that holds the sets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recognizer.benchmark import prompts

Split = Literal["train", "test"]

WHOLE = "whole set, which has no split"
V2 = "imagenetv2-matched-frequency-format-val"
V2_FOLDERS = (V2, f"imagenetv2/{V2}")


@dataclass(frozen=True, slots=True)
class Found:
    """What a reader found: the names of the classes, the path and the class of each image, and a note."""

    classes: Sequence[str]
    samples: Iterable[tuple[str | Path | NDArray[np.uint8], int]]
    note: str = ""


Reader = Callable[[Path, Split], Found]


def coop_reader(folder: str, images: str, file: str) -> Reader:
    """Return a reader of a set in CoOp's layout (arXiv 2109.01134).

    Args:
        folder: of the set.
        images: folder in it from which the paths start.
        file: in it, JSON of lists "train", "val" and "test" of [path, number of the class, its name].
    """

    def read(data: Path, split: Split) -> Found:
        document = json.loads((data / folder / file).read_text(encoding="utf-8"))
        names = {int(label): str(name) for part in ("train", "test") for _, label, name in document[part]}
        if sorted(names) != list(range(len(names))):
            raise ValueError(f"the classes in {file} are not numbered from 0")
        samples = [(data / folder / images / path, int(label)) for path, label, _ in document[split]]
        return Found([names[label] for label in range(len(names))], samples, "CoOp's split")

    return read


def _path(path: str | Path) -> str | Path:
    """Stand in for the loader of torchvision's readers, so that they yield paths."""
    return path


def _samples(reader: Any) -> Iterable[tuple[Any, int]]:  # noqa: ANN401  a data set of torchvision
    return ((sample, int(label)) for sample, label in (reader[row] for row in range(len(reader))))


def _whole(split: Split) -> str:
    if split == "train":
        raise ValueError("it has no training split; CoOp's split file has one")
    return WHOLE


def read_food(data: Path, split: Split) -> Found:
    """Read Food-101 (Bossard et al. 2014)."""
    from torchvision.datasets import Food101

    reader = Food101(data, split=split, loader=_path)
    return Found(reader.classes, _samples(reader))


def cifar_reader(kind: str) -> Reader:
    """Return the reader of CIFAR10 or CIFAR100 (Krizhevsky 2009), whose images are arrays in pickles."""

    def read(data: Path, split: Split) -> Found:
        from torchvision import datasets

        reader = getattr(datasets, kind)(data, train=split == "train")
        return Found(reader.classes, zip(reader.data, map(int, reader.targets), strict=True))

    return read


def read_sun(data: Path, split: Split) -> Found:
    """Read SUN397 (Xiao et al. 2010); torchvision knows no split."""
    from torchvision.datasets import SUN397

    note = _whole(split)
    reader = SUN397(data, loader=_path)
    # torchvision lists them in the order of the file system.
    return Found([name.replace("/", " ") for name in reader.classes], sorted(_samples(reader)), note)


def read_cars(data: Path, split: Split) -> Found:
    """Read Stanford Cars (Krause et al. 2013)."""
    from torchvision.datasets import StanfordCars

    reader = StanfordCars(data, split=split, loader=_path)
    return Found(reader.classes, _samples(reader))


def read_textures(data: Path, split: Split) -> Found:
    """Read the Describable Textures (Cimpoi et al. 2014), first partition."""
    from torchvision.datasets import DTD

    reader = DTD(data, split=split, loader=_path)
    return Found(reader.classes, _samples(reader))


def read_pets(data: Path, split: Split) -> Found:
    """Read Oxford-IIIT Pets (Parkhi et al. 2012)."""
    from torchvision.datasets import OxfordIIITPet

    reader = OxfordIIITPet(data, split="trainval" if split == "train" else "test")
    # This reader opens each image; its list of paths is not public.
    return Found(reader.classes, zip(reader._images, map(int, reader._labels), strict=True))


def read_caltech(data: Path, split: Split) -> Found:
    """Read Caltech-101 (Fei-Fei et al. 2004) without its background; it has no split."""
    from torchvision.datasets import Caltech101

    note = _whole(split)
    reader = Caltech101(data)
    samples = [
        (Path(reader.root, "101_ObjectCategories", reader.categories[label], f"image_{number:04d}.jpg"), label)
        for number, label in zip(reader.index, reader.y, strict=True)
    ]
    return Found([prompts.CALTECH_NAMES.get(name, name) for name in reader.categories], samples, note)


def read_flowers(data: Path, split: Split) -> Found:
    """Read Oxford Flowers-102 (Nilsback and Zisserman 2008)."""
    from torchvision.datasets import Flowers102

    reader = Flowers102(data, split=split, loader=_path)
    return Found(reader.classes, _samples(reader))


def read_aircraft(data: Path, split: Split) -> Found:
    """Read FGVC-Aircraft variants (Maji et al. 2013)."""
    from torchvision.datasets import FGVCAircraft

    reader = FGVCAircraft(data, split="trainval" if split == "train" else "test", loader=_path)
    return Found(reader.classes, _samples(reader))


def read_eurosat(data: Path, split: Split) -> Found:
    """Read EuroSAT in RGB (Helber et al. 2019); it has no split."""
    from torchvision.datasets import EuroSAT

    note = _whole(split)
    reader = EuroSAT(data, loader=_path)
    return Found([prompts.EUROSAT_NAMES.get(name, name) for name in reader.classes], _samples(reader), note)


def read_places(data: Path, split: Split) -> Found:
    """Read Places365 (Zhou et al. 2017); the test labels are secret, so "test" is the validation set."""
    from torchvision.datasets import Places365

    root = data / "places365"
    folder = "data_256_standard" if split == "train" else "val_256"
    reader = Places365(
        root, split="train-standard" if split == "train" else "val", small=(root / folder).is_dir(), loader=_path
    )
    # "/a/apartment_building/outdoor"
    classes = [name[3:].replace("/", " ") for name in reader.classes]
    return Found(classes, _samples(reader), "" if split == "train" else "validation images")


def read_birds(data: Path, split: Split) -> Found:
    """Read CUB-200-2011, to which torchvision has no reader: two files of "NUMBER VALUE" lines beside the images."""
    from torchvision.datasets import ImageFolder

    root = data / "CUB_200_2011"
    reader = ImageFolder(root / "images")
    paths, in_train = (
        dict(line.split() for line in (root / name).read_text(encoding="utf-8").splitlines() if line.strip())
        for name in ("images.txt", "train_test_split.txt")
    )
    wanted = {str(root / "images" / path) for number, path in paths.items() if in_train[number] == "1"}
    samples = [(path, label) for path, label in reader.samples if (path in wanted) == (split == "train")]
    return Found(reader.classes, samples)


def read_imagenet(data: Path, split: Split) -> Found:
    """Read ImageNet-1k (Russakovsky et al. 2015); "test" is the validation set."""
    from timm.data import ImageNetInfo
    from torchvision.datasets import ImageFolder

    part = "train" if split == "train" else "val"
    reader = ImageFolder(_first_folder(data, [f"imagenet/{part}", f"imagenet/images/{part}"]))
    numbers = {synset: number for number, synset in enumerate(ImageNetInfo().label_names())}
    unknown = [name for name in reader.classes if name not in numbers]
    if unknown:
        raise ValueError(f"the folder {unknown[0]} is none of the 1,000 synsets, such as n01440764")
    samples = [(path, numbers[reader.classes[label]]) for path, label in reader.samples]
    return Found(_imagenet_names(), samples, "" if split == "train" else "validation images")


def read_imagenet_v2(data: Path, split: Split) -> Found:
    """Read ImageNetV2, matched frequency (Recht et al. 2019)."""
    from torchvision.datasets import ImageFolder

    if split == "train":
        raise ValueError("it has no training images")
    reader = ImageFolder(_first_folder(data, V2_FOLDERS))
    # Folders are numbers of classes; in the alphabetical order of ImageFolder 10 comes before 2.
    samples = [(path, int(reader.classes[label])) for path, label in reader.samples]
    names = _imagenet_names()
    if not all(0 <= label < len(names) for _, label in samples):
        raise ValueError("a folder is not the number of a class, 0 to 999")
    return Found(names, samples)


def _imagenet_names() -> Sequence[str]:
    import open_clip

    names: Sequence[str] = open_clip.IMAGENET_CLASSNAMES
    return names


def _first_folder(data: Path, folders: Sequence[str]) -> Path:
    for folder in folders:
        if (data / folder).is_dir():
            return data / folder
    raise ValueError(f"{' or '.join(folders)} is missing")
