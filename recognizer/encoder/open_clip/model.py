"""Any model that open_clip builds, from a tag, a file, a folder or the Hugging Face hub."""

from __future__ import annotations

import difflib
import logging
import pickle
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from recognizer.encoder.device import Precision, is_convolutional
from recognizer.encoder.errors import EncoderError, EncoderUnavailable
from recognizer.encoder.named import NAMED
from recognizer.encoder.open_clip.catalogue import hub_answers, nothing_fetched
from recognizer.encoder.open_clip.file_settings import RANDOM, FileSettings
from recognizer.encoder.open_clip.image import PlainTower, ResNetTower, TimmTower, ViTTower
from recognizer.encoder.open_clip.text import build_text_tower, describe_tokenizer
from recognizer.encoder.open_clip.transformers_layout import from_transformers, is_transformers_layout
from recognizer.encoder.open_clip.weights_file import (
    NUMPY,
    check_weights_file,
    explain_weights_file,
    first_sentence,
    read_state,
)
from recognizer.encoder.parts import EncoderParts, LogitScale, fingerprint
from recognizer.encoder.preprocessing import Preprocessing
from recognizer.encoder.towers import ImageTower, Network, Tokenizer
from recognizer.encoder.windows import WindowSettings
from recognizer.images import Geometry

_TOKENIZER = "its tokenizer"
TEMPLATES = ("a photo of a {}.",)
_UNLOADABLE = (RuntimeError, OSError, ValueError, KeyError, EOFError, pickle.UnpicklingError, SafetensorError)
_FOLDER = "local-dir:"
_SCHEMAS = ("hf-hub:", _FOLDER)
_FOLDER_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # as open_clip writes them
_GEOMETRY: dict[str, Geometry] = {"squash": "squash", "shortest": "crop", "longest": "letterbox"}


def load_open_clip(
    model: str,
    pretrained: str | None,
    *,
    settings: FileSettings | None = None,
    windows: WindowSettings,
    device: torch.device,
    precision: Precision,
) -> EncoderParts:
    """Make an encoder from an open_clip model.

    Args:
        model: A name of `open_clip.list_models()`, `hf-hub:OWNER/NAME` or `local-dir:FOLDER`.
        pretrained: A tag or a checkpoint file for a model given by name, or `random` for the same random
            weights every time; None for the other two, which bring their weights.
        settings: Those of weights from a file; the defaults of the architecture where None, as in memories that were
            built before their specs held settings.
        windows: The regions.
        device: Where to compute.
        precision: What to compute in.

    Raises:
        EncoderError: If the names do not fit together; the message lists what would.
        EncoderUnavailable: If a file is missing and cannot be fetched.
    """
    pretrained = _resolve(model, pretrained)
    network = _build(model, pretrained, settings)
    tokenizer = build_tokenizer(model)
    preprocessing = _preprocessing(network)
    dim = _joint_dim(network)
    hexdigest = fingerprint(
        {
            "architecture": _architecture(model, network),
            "tokenizer": describe_tokenizer(tokenizer),
            "preprocessing": preprocessing.to_json(),
        },
        network.state_dict(),
    )
    bias = getattr(network, "logit_bias", None)
    logit_scale = LogitScale(network.logit_scale.exp().item(), None if bias is None else bias.item())
    _place(network, device, precision)
    spec = {"kind": "open_clip", "model": model, "pretrained": pretrained, "windows": windows.to_json()}
    if settings is not None:
        spec["settings"] = settings.to_json()
    return EncoderParts(
        name=model if pretrained is None else f"{model}/{Path(pretrained).name}",
        fingerprint=hexdigest,
        spec=spec,
        image_tower=_image_tower(network, preprocessing, dim, precision),
        text_tower=build_text_tower(network, tokenizer, dim),
        templates=TEMPLATES,
        windows=windows,
        temperature=1 / network.logit_scale.exp().item(),
        logit_scale=logit_scale,
    )


def _resolve(model: str, pretrained: str | None) -> str | None:
    """Check that model and weights exist; a file becomes an absolute path."""
    import open_clip

    if model.startswith(_SCHEMAS):
        if pretrained is not None:
            raise EncoderError(f"{model} brings its own weights; leave pretrained out (it is {pretrained!r})")
        return None
    if open_clip.get_model_config(model) is None:
        similar = _similar(model, [*NAMED, *open_clip.list_models()])
        question = f"; did you mean {similar}?" if similar else "."
        raise EncoderError(
            f"open_clip has no model {model!r}{question} Use starter, {', '.join(NAMED)}, a name that "
            "`recognizer models` lists, such as ViT-B-32, hf-hub:OWNER/NAME or local-dir:FOLDER"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    possible = f"one of its tags ({', '.join(tags) or 'none'}), a checkpoint file, TAG=FILE or {RANDOM!r}"
    if pretrained is None:
        raise EncoderError(f"{model} needs weights: pretrained must be {possible}")
    if pretrained == RANDOM or open_clip.get_pretrained_cfg(model, pretrained):
        return pretrained
    if Path(pretrained).is_file():
        return str(Path(pretrained).resolve())
    raise EncoderUnavailable(f"{pretrained!r} does not name weights of {model}: there is no such file; use {possible}")


def _similar(model: str, names: Sequence[str]) -> str:
    """Return the names that differ from a model's in case and punctuation alone, else a few that resemble it."""
    plain = {_plain(name): name for name in names}
    if _plain(model) in plain:
        return plain[_plain(model)]
    return " or ".join(plain[name] for name in difflib.get_close_matches(_plain(model), plain, n=3, cutoff=0.8))


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _build(model: str, pretrained: str | None, settings: FileSettings | None) -> Network:
    import open_clip

    tag = open_clip.get_pretrained_cfg(model, pretrained) if pretrained else {}
    options: dict[str, Any] = {"pretrained": pretrained, "require_pretrained": True}
    if pretrained == RANDOM:
        options = {"pretrained_text": False}
    elif tag.get("quick_gelu"):
        options["force_quick_gelu"] = True
    elif settings is not None:
        options |= {"quick_gelu": settings.quick_gelu, "force_preprocess_cfg": settings.preprocess_cfg()}
    file = _weights_file(model, pretrained)
    if file is not None:
        check_weights_file(file)
    try:
        with torch.random.fork_rng(devices=[]), nullcontext() if file is not None else _quiet_hub(model, pretrained):
            torch.manual_seed(0)
            converted = _of_transformers(file) if settings is not None and file is not None else None
            if converted is not None:
                options |= {"pretrained": None, "require_pretrained": False, "pretrained_text": False}
            network = open_clip.create_model(model, **options)
            if converted is not None:
                network.load_state_dict(converted)
    except Exception as error:
        if file is not None:  # a damaged file makes torch, safetensors and open_clip raise errors of any type
            traceback.clear_frames(error.__traceback__)  # they hold NumPy's archives open
            raise explain_weights_file(file, error, lambda: _random_state(model)) from error
        if isinstance(error, _UNLOADABLE):
            raise EncoderUnavailable(_missing(model, pretrained, error)) from error
        raise
    return network.eval()


def _of_transformers(file: Path) -> dict[str, torch.Tensor] | None:
    """Read a state dict in Transformers' layout, in that of open_clip; None: the file is in another."""
    if file.suffix in NUMPY:
        return None
    state = read_state(file)
    return from_transformers(state) if is_transformers_layout(state) else None


def _random_state(model: str) -> dict[str, torch.Tensor]:
    """Return the state dict of a network with random weights."""
    import open_clip

    with torch.random.fork_rng(devices=[]):
        network = open_clip.create_model(model, pretrained_text=False, load_weights=False)
    state: dict[str, torch.Tensor] = network.state_dict()
    return state


def _weights_file(model: str, pretrained: str | None) -> Path | None:
    """Return the local file that the weights come from; None: they come from elsewhere."""
    if model.startswith(_FOLDER):
        folder = Path(model.removeprefix(_FOLDER))
        return next((file for name in _FOLDER_WEIGHTS if (file := folder / name).is_file()), None)
    # `_resolve` makes the path of a file absolute; a tag never is, even if a file of that name exists.
    return Path(pretrained) if pretrained is not None and Path(pretrained).is_absolute() else None


def build_tokenizer(model: str) -> Tokenizer:
    """Make the tokenizer of a model.

    Raises:
        EncoderUnavailable: A file of it is missing and cannot be fetched.
    """
    import open_clip

    try:
        with _quiet_hub(model, RANDOM):
            return open_clip.get_tokenizer(model)
    except (RuntimeError, OSError, ValueError) as error:
        raise EncoderUnavailable(_missing(model, _TOKENIZER, error)) from error


@contextmanager
def _quiet_hub(model: str, pretrained: str | None) -> Iterator[None]:
    """Keep retries and failures of a download out of the logs: dozens of lines before the error that says it once.

    Where the hub does not answer, nothing is fetched: the retries of its library would take half a minute.
    """
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with nothing_fetched() if _needs_hub(model, pretrained) and not hub_answers() else nullcontext():
            yield
    finally:
        logging.disable(before)


def _needs_hub(model: str, pretrained: str | None) -> bool:
    """Tell whether weights, tokenizer or settings of a model come from the hub, or from its cache."""
    import open_clip

    config = None if model.startswith(_SCHEMAS) else open_clip.get_model_config(model)
    if config is None or pretrained != RANDOM:
        return not model.startswith(_FOLDER)
    return bool({"hf_tokenizer_name", "hf_model_name"} & config["text_cfg"].keys())


def _missing(model: str, what: str | None, error: Exception) -> str:
    reason = first_sentence(error)
    wanted = model if what is None else f"{model} ({what})"
    remedy = "on a machine with a connection load the model once and copy its cache folder (HF_HOME) here"
    if model.startswith(_SCHEMAS):
        remedy += (
            ", or download its repository there (`hf download OWNER/NAME --local-dir FOLDER`), copy the folder and "
            "load it here as 'local-dir:FOLDER'"
        )
    elif what != _TOKENIZER:
        remedy += ", or copy the file of the weights alone and load it here as `--pretrained TAG=FILE`"
    return f"the files of {wanted} are not on this machine and could not be fetched: {reason}; {remedy}"


def _architecture(model: str, network: Network) -> dict[str, Any]:
    import open_clip

    config: dict[str, Any] = open_clip.get_model_config(model)
    activations = sorted({type(part).__name__ for part in network.modules() if "gelu" in type(part).__name__.lower()})
    return {"config": config, "activations": activations}


def _preprocessing(network: Network) -> Preprocessing:
    import open_clip

    config = open_clip.get_model_preprocess_cfg(network)
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    mean, std = (value if isinstance(value, list | tuple) else [value] * 3 for value in (config["mean"], config["std"]))
    return Preprocessing(
        size_hw=(int(height), int(width)),
        geometry=_GEOMETRY[config["resize_mode"]],
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        fill=int(config["fill_color"]),
    )


def _joint_dim(network: Network) -> int:
    with torch.inference_mode():
        return int(network.encode_text(torch.zeros(1, int(network.context_length), dtype=torch.int64)).shape[-1])


def _place(network: Network, device: torch.device, precision: Precision) -> None:
    """Move to the device; in bf16, cast the weights of transformers and leave those of convolutions to autocast."""
    network.to(device)
    if precision == "bf16":
        convolutional = {id(part) for part in network.visual.modules()} if is_convolutional(network.visual) else set()
        for part in network.modules():
            if id(part) not in convolutional:
                _cast_own_tensors(part)


def _cast_own_tensors(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.data = parameter.data.to(torch.bfloat16)
    for buffer in module.buffers(recurse=False):
        if buffer.is_floating_point():
            buffer.data = buffer.data.to(torch.bfloat16)


def _image_tower(network: Network, preprocessing: Preprocessing, dim: int, precision: Precision) -> ImageTower:
    """Choose the tower with the best regions that `network.visual` allows."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    visual = network.visual
    autocast = precision == "bf16" and is_convolutional(visual)
    if isinstance(visual, VisionTransformer) and _has_dense_tokens(visual):
        return ViTTower(visual, preprocessing)
    if isinstance(visual, ModifiedResNet):
        return ResNetTower(visual, preprocessing, bf16=autocast)
    if isinstance(visual, TimmModel):
        try:
            return TimmTower(visual, preprocessing, dim=dim, bf16=autocast)
        except ValueError:  # a head that takes no windows: crops of the image serve as regions
            return PlainTower(network, preprocessing, dim=dim, bf16=autocast)
    return PlainTower(network, preprocessing, dim=dim, bf16=autocast)


def _has_dense_tokens(visual: Network) -> bool:
    return len(visual.transformer.resblocks) >= 2 and getattr(visual, "attn_pool_contrastive", None) is None
