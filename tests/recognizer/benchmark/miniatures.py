"""Miniature copies of the usual data sets in their layouts: two classes, few tiny images, one colour for each class."""

import json
import pickle

import numpy as np
from PIL import Image
from scipy.io import savemat

COLOURS = ((230, 30, 30), (30, 30, 230))


def picture(path, label, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), tuple(max(c - shade, 0) for c in COLOURS[label])).save(path, quality=95)


def mean_colour(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), int).mean((0, 1))


def lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))


def food(data):
    root = data / "food-101"
    for part in ("train", "test"):
        listed = {name: [f"{name}/{part}{k}" for k in range(2)] for name in ("apple_pie", "waffles")}
        lines(root / "meta" / f"{part}.json", json.dumps(listed))
        for label, paths in enumerate(listed.values()):
            for k, path in enumerate(paths):
                picture(root / "images" / f"{path}.jpg", label, k)


def cifar(data, kind):
    root = data / ("cifar-10-batches-py" if kind == 10 else "cifar-100-python")
    root.mkdir(parents=True)
    key = "labels" if kind == 10 else "fine_labels"
    labels = [1, 0, 1]
    content = {
        "data": np.array([np.repeat(COLOURS[label], 1024) for label in labels], np.uint8),
        key: labels,
    }
    files = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"] if kind == 10 else ["train", "test"]
    for name in files:
        (root / name).write_bytes(pickle.dumps(content))
    names = {"label_names": ["airplane", "bird"]} if kind == 10 else {"fine_label_names": ["apple", "aquarium_fish"]}
    (root / ("batches.meta" if kind == 10 else "meta")).write_bytes(pickle.dumps(names))


def sun(data):
    root = data / "SUN397"
    lines(root / "ClassName.txt", "/a/abbey", "/a/apartment_building/outdoor")
    for label, folder in enumerate(("a/abbey", "a/apartment_building/outdoor")):
        for k in range(2):
            picture(root / folder / f"sun_{'cb'[k]}{label}.jpg", label, k)


def cars(data):
    root = data / "stanford_cars"
    (root / "devkit").mkdir(parents=True)
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], object)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": names})
    for part, file in (
        ("test", root / "cars_test_annos_withlabels.mat"),
        ("train", root / "devkit/cars_train_annos.mat"),
    ):
        kind = [("fname", object), ("class", object)]
        savemat(file, {"annotations": np.array([(f"0000{k}.jpg", k % 2 + 1) for k in range(3)], kind)})
        for k in range(3):
            picture(root / f"cars_{part}" / f"0000{k}.jpg", k % 2, k)


def textures(data):
    root = data / "dtd" / "dtd"
    for part in ("train", "test"):
        lines(root / "labels" / f"{part}1.txt", *(f"{name}/{name}_{part}.jpg" for name in ("banded", "polka-dotted")))
        for label, name in enumerate(("banded", "polka-dotted")):
            picture(root / "images" / name / f"{name}_{part}.jpg", label)


def pets(data):
    root = data / "oxford-iiit-pet"
    for part in ("trainval", "test"):
        names = [f"Abyssinian_{part}", f"american_bulldog_{part}"]
        lines(root / "annotations" / f"{part}.txt", f"{names[0]} 1 1 1", f"{names[1]} 2 2 1")
        for label, name in enumerate(names):
            picture(root / "images" / f"{name}.jpg", label)


def caltech(data):
    root = data / "caltech101" / "101_ObjectCategories"
    picture(root / "BACKGROUND_Google" / "image_0001.jpg", 0)
    for label, name in enumerate(("Faces_easy", "ceiling_fan")):
        for k in range(1, 3):
            picture(root / name / f"image_{k:04d}.jpg", label, k)


def flowers(data):
    root = data / "flowers-102"
    root.mkdir(parents=True)
    savemat(root / "imagelabels.mat", {"labels": np.array([[1, 2, 1, 2]])})
    savemat(root / "setid.mat", {"trnid": [[1, 2]], "valid": [[1]], "tstid": [[3, 4]]})
    for number, label in enumerate((0, 1, 0, 1), 1):
        picture(root / "jpg" / f"image_{number:05d}.jpg", label)


def birds(data):
    root = data / "CUB_200_2011"
    paths = [f"{name}/{k}.jpg" for name in ("001.Black_footed_Albatross", "002.Laysan_Albatross") for k in range(2)]
    lines(root / "images.txt", *(f"{number} {path}" for number, path in enumerate(paths, 1)))
    lines(root / "train_test_split.txt", "1 1", "2 0", "3 1", "4 0")
    for number, path in enumerate(paths):
        picture(root / "images" / path, number // 2)


def places(data):
    root = data / "places365"
    lines(root / "categories_places365.txt", "/a/airfield 0", "/a/apartment_building/outdoor 1")
    lines(root / "places365_val.txt", "val_2.jpg 1", "val_1.jpg 0")
    picture(root / "val_256" / "val_1.jpg", 0)
    picture(root / "val_256" / "val_2.jpg", 1)


def aircraft(data):
    root = data / "fgvc-aircraft-2013b" / "data"
    lines(root / "variants.txt", "707-320", "A320")
    for part in ("trainval", "test"):
        lines(root / f"images_variant_{part}.txt", f"1{part} A320", f"2{part} 707-320")
        picture(root / "images" / f"1{part}.jpg", 1)
        picture(root / "images" / f"2{part}.jpg", 0)


def eurosat(data):
    for label, name in enumerate(("AnnualCrop", "SeaLake")):
        for k in range(2):
            picture(data / "eurosat" / "2750" / name / f"{name}_{k}.jpg", label, k)


def imagenet(data):
    """A part of it: the synsets of goldfish (1) and of great white shark (2), whose numbers their names tell."""
    for part in ("train", "val"):
        picture(data / "imagenet" / part / "n01443537" / "a.JPEG", 0)
        picture(data / "imagenet" / part / "n01484850" / "b.JPEG", 1)


def imagenet_v2(data):
    for label in (2, 10):
        picture(data / "imagenetv2-matched-frequency-format-val" / str(label) / "a.jpeg", label // 10)


def coop(data, folder, images, file, names):
    """A set in the layout of CoOp: an image of each class in each split."""
    document = {}
    for part in ("train", "val", "test"):
        document[part] = [[f"{label}/{part}.jpg", label, name] for label, name in enumerate(names)]
        for path, label, _ in document[part]:
            picture(data / folder / images / path, label)
    (data / folder / file).write_text(json.dumps(document))


MAKE = {
    "CIFAR10": lambda data: cifar(data, 10),
    "CIFAR100": lambda data: cifar(data, 100),
    "SUN397": sun,
    "StanfordCars": cars,
    "DTD": textures,
    "OxfordPets": pets,
    "Caltech101": caltech,
    "Flowers102": flowers,
    "CUB": birds,
    "Places365": places,
    "Food101": food,
    "FGVCAircraft": aircraft,
    "EuroSAT": eurosat,
    "ImageNet": imagenet,
    "ImageNetV2": imagenet_v2,
}
