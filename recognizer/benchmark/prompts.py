"""Templates and class names under which CLIP's figures on the usual data sets were published.

Radford et al., arXiv 2103.00020; github.com/openai/CLIP, data/prompts.md. The templates of ImageNet are open_clip's.
Names that are not here come from the readers of the sets.
"""

from __future__ import annotations

PHOTO = ("a photo of a {}.", "a photo of the {}.")

_CIFAR_KINDS = ("blurry", "black and white", "low contrast", "high contrast", "bad", "good")
CIFAR = tuple(
    template
    for article in ("a", "the")
    for template in (
        f"a photo of {article} {{}}.",
        *(f"a {kind} photo of {article} {{}}." for kind in _CIFAR_KINDS),
        f"a photo of {article} small {{}}.",
        f"a photo of {article} big {{}}.",
    )
)

CARS = (
    *PHOTO,
    "a photo of my {}.",
    "i love my {}!",
    "a photo of my dirty {}.",
    "a photo of my clean {}.",
    "a photo of my new {}.",
    "a photo of my old {}.",
)

TEXTURES = tuple(
    f"a photo of {article} {{}} {what}."
    for article in ("a", "the")
    for what in ("texture", "pattern", "thing", "object")
)

CALTECH = tuple(
    template.replace("%", article)
    for article in ("a", "the")
    for template in (
        "a photo of % {}.",
        "a painting of % {}.",
        "% plastic {}.",
        "a sculpture of % {}.",
        "a sketch of % {}.",
        "a tattoo of % {}.",
        "% toy {}.",
        "a rendition of % {}.",
        "% embroidered {}.",
        "% cartoon {}.",
        "% {} in a video game.",
        "% plushie {}.",
        "% origami {}.",
        "art of % {}.",
        "graffiti of % {}.",
        "a drawing of % {}.",
        "a doodle of % {}.",
    )
)

SATELLITE = tuple(f"a centered satellite photo of {article}{{}}." for article in ("", "a ", "the "))

FOOD = ("a photo of {}, a type of food.",)
PET = ("a photo of a {}, a type of pet.",)
FLOWER = ("a photo of a {}, a type of flower.",)
BIRD = ("a photo of a {}, a type of bird.",)
AIRCRAFT = ("a photo of a {}, a type of aircraft.", "a photo of the {}, a type of aircraft.")
ACTION = ("a photo of a person doing {}.",)  # CoOp's; CLIP's 48 templates gain little on its middle frames

CALTECH_NAMES = {
    "Faces": "off-center face",
    "Faces_easy": "centered face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
    "car_side": "side of a car",
    "cougar_body": "body of a cougar cat",
    "cougar_face": "face of a cougar cat",
    "crocodile_head": "head of a crocodile",
    "flamingo_head": "head of a flamingo",
    "snoopy": "snoopy (cartoon beagle)",
    "yin_yang": "yin and yang symbol",
}

EUROSAT_NAMES = {
    "AnnualCrop": "annual crop land",
    "Forest": "forest",
    "HerbaceousVegetation": "brushland or shrubland",
    "Highway": "highway or road",
    "Industrial": "industrial buildings or commercial buildings",
    "Pasture": "pasture land",
    "PermanentCrop": "permanent crop land",
    "Residential": "residential buildings or homes or apartments",
    "River": "river",
    "SeaLake": "lake or sea",
}
