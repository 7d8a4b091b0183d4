"""What a file of weights does not hold: how its images were prepared, and which GELU its network had.

Both belong to the weights, not to the architecture: of open_clip's tags many differ from what their architecture
assumes, and a network with the wrong ones runs without an error and recognises less.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memory.errors import printable_path
from recognizer.encoder.errors import EncoderError, EncoderUnavailable

RANDOM = "random"
_OPEN_CLIP_CONFIG = "open_clip_config.json"
# Transformers' files beside a checkpoint: the activation, and the preparation of images.
_TRANSFORMERS_CONFIG = "config.json"
_TRANSFORMERS_IMAGES = "preprocessor_config.json"
_RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_TOWERS = ("vision_cfg", "text_cfg")
# Where weights or a tokenizer come from, and what acts in training alone, is no part of the network.
_NOT_COMPARED = (
    *("timm_model_pretrained", "hf_tokenizer_name", "hf_model_name", "hf_model_pretrained"),
    *("timm_drop", "timm_drop_path", "patch_dropout"),
)


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Settings of weights from a file.

    Attributes:
        mean: Per-channel mean on the scale 0 to 1.
        std: Per-channel standard deviation on the scale 0 to 1.
        interpolation: `bicubic` or `bilinear`.
        resize_mode: `shortest`, `longest` or `squash`, as open_clip names them.
        quick_gelu: OpenAI's approximation of the GELU; of no effect in networks that never have it.
        source: Where the settings are from, in words for people.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    quick_gelu: bool
    source: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FileSettings:
        """Make settings from a JSON object of `to_json`.

        Raises:
            EncoderError: If it is none; it may be from somebody else's memory.
        """
        try:
            mean, std = (tuple(float(part) for part in value[name]) for name in ("mean", "std"))
            words = {name: str(value[name]) for name in ("interpolation", "resize_mode", "source")}
            return cls(mean=mean, std=std, quick_gelu=bool(value["quick_gelu"]), **words)
        except (KeyError, TypeError, ValueError) as error:
            raise EncoderError(f"the encoder's settings {value!r} are damaged") from error

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    def preprocess_cfg(self) -> dict[str, Any]:
        """The part that is open_clip's `preprocess_cfg`."""
        return {name: getattr(self, name) for name in ("mean", "std", "interpolation", "resize_mode")}

    def parts(self) -> dict[str, str]:
        """What each setting is, in words."""
        return {
            "mean": f"mean {_numbers(self.mean)}",
            "std": f"std {_numbers(self.std)}",
            "resize_mode": f"resize {self.resize_mode}",
            "interpolation": self.interpolation,
            "quick_gelu": "QuickGELU" if self.quick_gelu else "GELU",
        }

    def __str__(self) -> str:
        """All settings on one line."""
        return f"{', '.join(self.parts().values())} ({self.source})"


def read_pretrained(model: str, pretrained: str | None) -> tuple[str | None, FileSettings | None]:
    """Split `TAG=FILE`, and find the settings of weights from a file.

    They are the tag's, or those of a config beside the file (open_clip's, else Transformers'), or else the defaults
    of the architecture.

    Args:
        model: A name of `open_clip.list_models()`; another one is left to whoever loads it.
        pretrained: A tag, a file, `TAG=FILE` or `random`.

    Returns:
        The tag, or the absolute path of the file with its settings.

    Raises:
        EncoderError: If the tag is unknown, or the config beside the file is of another network.
        EncoderUnavailable: If the file of `TAG=FILE` does not exist.
    """
    import open_clip

    architecture = None if model.startswith(("hf-hub:", "local-dir:")) else open_clip.get_model_config(model)
    if pretrained is None or architecture is None or _is_tag(model, pretrained):
        return pretrained, None
    file = Path(pretrained)
    if file.is_file():
        return str(file.resolve()), _beside(model, architecture, file) or _defaults(model, architecture)
    tag, equals, name = pretrained.partition("=")
    if not equals:
        return pretrained, None
    if not open_clip.get_pretrained_cfg(model, tag):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise EncoderError(f"{tag!r} of {pretrained!r} is no tag of {model}; it has {tags}")
    if not Path(name).is_file():
        raise EncoderUnavailable(f"{printable_path(Path(name))} does not exist; {pretrained!r} means TAG=FILE")
    return str(Path(name).resolve()), _of_tag(model, architecture, tag)


def explain_settings(model: str, file: str, settings: FileSettings) -> list[str]:
    """Say how images for the weights of a file are prepared, and where that was assumed, which tags differ."""
    name = Path(file).name
    if not _is_assumed(settings):
        return [f"{name}: {settings}"]
    sentences = [f"nothing says how images for {name} are prepared; assumed: {settings}"]
    differing = [f"{', '.join(tags)} ({difference})" for difference, tags in differing_tags(model, settings).items()]
    if differing:
        sentences.append(
            f"tags of {model} that differ: {'; '.join(differing)}. If the file is one of them, or was trained from "
            f"one, give --pretrained TAG=FILE"
        )
    return sentences


def differing_tags(model: str, settings: FileSettings) -> dict[str, list[str]]:
    """Return the tags of a model whose settings differ, by what differs."""
    import open_clip

    architecture = open_clip.get_model_config(model)
    parts = settings.parts()
    tags: dict[str, list[str]] = {}
    for tag in open_clip.list_pretrained_tags_by_model(model):
        theirs = _of_tag(model, architecture, tag).parts()
        difference = ", ".join(words for name, words in theirs.items() if words != parts[name])
        if difference:
            tags.setdefault(difference, []).append(tag)
    return tags


def _is_tag(model: str, pretrained: str) -> bool:
    import open_clip

    return pretrained == RANDOM or bool(open_clip.get_pretrained_cfg(model, pretrained))


def _defaults(model: str, architecture: Mapping[str, Any]) -> FileSettings:
    return _settings({}, quick_gelu=bool(architecture.get("quick_gelu")), source=f"defaults of {model}")


def _is_assumed(settings: FileSettings) -> bool:
    return settings.source.startswith("defaults of ")


def _of_tag(model: str, architecture: Mapping[str, Any], tag: str) -> FileSettings:
    import open_clip

    config = open_clip.get_pretrained_cfg(model, tag)
    quick_gelu = bool(config.get("quick_gelu") or architecture.get("quick_gelu"))
    return _settings(config, quick_gelu=quick_gelu, source=f"tag {tag}")


def _settings(config: Mapping[str, Any], *, quick_gelu: bool, source: str) -> FileSettings:
    """Fill what a config of open_clip leaves out, as open_clip does."""
    from open_clip.transform import PreprocessCfg

    defaults = PreprocessCfg()
    values = {
        name: getattr(defaults, name) if config.get(name) is None else config[name]
        for name in ("mean", "std", "interpolation", "resize_mode")
    }
    for name in ("mean", "std"):
        value = values[name]
        values[name] = tuple(float(part) for part in (value if isinstance(value, list | tuple) else [value] * 3))
    return FileSettings(**values, quick_gelu=quick_gelu, source=source)


def _beside(model: str, architecture: Mapping[str, Any], file: Path) -> FileSettings | None:
    """Read the settings from a config in the folder of the file; None: there is none."""
    path = file.parent / _OPEN_CLIP_CONFIG
    if path.is_file():
        config = _json(path)
        network = config.get("model_cfg", config)
        _check_same_network(model, architecture, network, path)
        prepared = config.get("preprocess_cfg") or {}
        return _settings(prepared, quick_gelu=bool(network.get("quick_gelu")), source=path.name)
    return _of_transformers(file.parent)


def _check_same_network(model: str, architecture: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> None:
    """Refuse the config of another network: its number of heads, say, is in no tensor's shape."""
    pairs = [(name, architecture, config) for name in ("embed_dim",)]
    for tower in _TOWERS:
        ours, theirs = architecture.get(tower) or {}, config.get(tower) or {}
        pairs += [(name, ours, theirs) for name in sorted(ours.keys() & theirs.keys()) if name not in _NOT_COMPARED]
    for name, ours, theirs in pairs:
        if name in theirs and ours.get(name) != theirs[name]:
            raise EncoderError(
                f"{printable_path(path)} describes another network than {model}: its {name} is {theirs[name]!r}, not "
                f"{ours.get(name)!r}; load the folder as 'local-dir:FOLDER', name the model that fits, or remove the "
                f"file"
            )


def _of_transformers(folder: Path) -> FileSettings | None:
    """Read Transformers' two configs of a CLIP or a SigLIP."""
    network, images = folder / _TRANSFORMERS_CONFIG, folder / _TRANSFORMERS_IMAGES
    if not (network.is_file() and images.is_file()):
        return None
    config, prepared = _json(network), _json(images)
    if "vision_config" not in config or "image_mean" not in prepared:
        return None
    # Transformers leaves out of a config what is its default, and a CLIP's default is QuickGELU.
    default = "quick_gelu" if config.get("model_type") == "clip" else "gelu"
    return _settings(
        {
            "mean": prepared.get("image_mean"),
            "std": prepared.get("image_std"),
            "interpolation": _RESAMPLING.get(prepared.get("resample", 3)),
            "resize_mode": "shortest" if prepared.get("do_center_crop") else "squash",
        },
        quick_gelu=config["vision_config"].get("hidden_act", default) == "quick_gelu",
        source=f"{network.name} and {images.name}",
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{printable_path(path)} could not be read: {error}") from error
    if not isinstance(value, dict):
        raise EncoderError(f"{printable_path(path)} holds no JSON object")
    return value


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
