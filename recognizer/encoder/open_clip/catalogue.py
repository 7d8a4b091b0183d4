"""Which encoders open_clip offers, how good they are said to be, and which are on this machine already."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from recognizer.encoder.named import NAMED, NamedEncoder

_ACCURACIES = "imagenet_zero_shot.csv"
_QUICK_GELU = "-quickgelu"
# Slow lines answer sooner.
_HUB_SECONDS = 5.0
# open_clip's names for the weights of a repository, and the files one of which a tokenizer of Transformers needs.
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json")


@dataclass(frozen=True, slots=True)
class Offer:
    """An architecture with weights.

    Attributes:
        name: `small`, `base` or `large`; empty for all others.
        model: Architecture.
        tag: Weights.
        pixels: Height and width of the model input.
        accuracy: Zero-shot top-1 on ImageNet in per cent; None where open_clip's table has none.
        at_hand: All files are in the hub cache of this machine.
    """

    name: str
    model: str
    tag: str
    pixels: str
    accuracy: float | None
    at_hand: bool


def list_offers(filter: str = "") -> list[Offer]:
    """List open_clip's encoders, the best first; looks at the hub cache and fetches nothing.

    Args:
        filter: Part of `NAME MODEL/TAG`, in any case.
    """
    import open_clip

    names = {(encoder.model, encoder.tag): name for name, encoder in NAMED.items()}
    offers = []
    for model, tag in open_clip.list_pretrained():
        name = names.get((model, tag), "")
        if filter.lower() in f"{name} {model}/{tag}".lower():
            accuracy = NAMED[name].accuracy if name else _accuracy(model, tag)
            offers.append(Offer(name, model, tag, _pixels(model), accuracy, is_at_hand(model, tag)))
    return sorted(offers, key=lambda offer: (-(offer.accuracy or 0), offer.model, offer.tag))


def is_at_hand(model: str, tag: str) -> bool:
    """Tell whether the hub cache holds the weights of a tag and the tokenizer of its model; no network is used."""
    import open_clip

    # "OWNER/NAME/" is a repository of open_clip's, "OWNER/NAME/FILE" one of others.
    repository, _, file = open_clip.get_pretrained_cfg(model, tag).get("hf_hub", "").rpartition("/")
    weights = [str(Path(file).with_suffix(".safetensors")), file] if file else list(_WEIGHTS)
    text: dict[str, Any] = open_clip.get_model_config(model)["text_cfg"]
    needed = [(repository, weights)]
    if text.get("hf_tokenizer_name"):
        needed += [(text["hf_tokenizer_name"], names) for names in (list(_TOKENIZER), ["tokenizer_config.json"])]
    if text.get("hf_model_name"):
        needed.append((text["hf_model_name"], ["config.json"]))
    return all(any(is_cached(owner, file) for file in alternatives) for owner, alternatives in needed)


def is_named_at_hand(encoder: NamedEncoder) -> bool:
    """Do as `is_at_hand`, without open_clip (a second of imports) where the cache has no folder of the repository."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=encoder.repository, repo_type="model")
    return folder.is_dir() and is_at_hand(encoder.model, encoder.tag)


def hub_answers() -> bool:
    """Tell whether the hub answers at all, within seconds; its library would try again for half a minute."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_HUB_SECONDS)
    except Exception:  # noqa: BLE001  of whichever client the library uses
        return False
    return True


def hub_silence() -> str:
    """Say why nothing can be fetched from the hub; empty where it answers."""
    from huggingface_hub import constants

    if hub_answers():
        return ""
    return "HF_HUB_OFFLINE allows no download" if constants.HF_HUB_OFFLINE else "the hub does not answer"


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Keep the hub's libraries off the network, so that what is loaded is what the cache holds."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def is_cached(repository: str, file: str, revision: str | None = None) -> bool:
    """Tell whether the local cache of the hub holds a file of a repository."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return bool(repository) and isinstance(try_to_load_from_cache(repository, file, revision=revision), str)
    except HFValidationError:  # no repository has such a name
        return False


def _pixels(model: str) -> str:
    import open_clip

    size = open_clip.get_model_config(model)["vision_cfg"].get("image_size", 224)
    return str(size) if isinstance(size, int) else "x".join(str(side) for side in size)


def _accuracy(model: str, tag: str) -> float | None:
    """Look the accuracy up under both names of a network: tags say themselves whether they are of QuickGELU."""
    import open_clip

    plain = model.removesuffix(_QUICK_GELU)
    names = [model, plain, plain + _QUICK_GELU]
    if open_clip.get_pretrained_cfg(model, tag).get("quick_gelu"):
        names.reverse()  # the table has some tags as they do without it, too
    table = _accuracies()
    return next((table[name, tag] for name in names if (name, tag) in table), None)


@cache
def _accuracies() -> dict[tuple[str, str], float]:
    lines = files(__package__).joinpath(_ACCURACIES).read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {(row["model"], row["tag"]): 100 * float(row["top1"]) for row in rows}
