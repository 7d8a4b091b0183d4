"""Say why a file of weights could not be loaded: what it is, and what would fit. Nothing in it is executed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from memory.errors import printable, printable_path
from recognizer.encoder.errors import EncoderUnavailable
from recognizer.encoder.open_clip.transformers_layout import from_transformers, is_transformers_layout

_EXPECTED = "expected is a state dict in the layout of open_clip or Transformers, as .pt, .pth, .bin or .safetensors"
NUMPY = (".npz", ".npy")  # read by open_clip as big_vision's archives
_MOST_NAMED = 3  # tensors of one kind in one message
_HEAD = 512  # bytes: enough for every signature below
# By the first bytes: what is downloaded or exported in place of a state dict.
_SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it"),
    (b"GGUF", "a GGUF file, as llama.cpp reads it"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"BZh", "a bzip2 archive; unpack it"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
)


def check_weights_file(path: Path) -> None:
    """Refuse a file that holds no state dict, by its first bytes and the names in its archive.

    Raises:
        EncoderUnavailable: It holds none; the message says what the file is.
    """
    try:
        fault = _foreign(path)
    except OSError as error:
        fault = f"cannot be opened ({error.strerror})"
    if fault is not None:
        raise _unusable(path, fault)


def explain_weights_file(
    path: Path, error: Exception, expected: Callable[[], Mapping[str, Tensor]]
) -> EncoderUnavailable:
    """Explain why open_clip could not load a file that `check_weights_file` lets pass.

    Args:
        path: The file.
        error: What open_clip raised.
        expected: Makes the state dict of the network that was to be filled.

    Returns:
        The error to raise; its message says what is wrong with the file and what is expected.
    """
    if path.suffix in NUMPY:
        fault = "is a NumPy archive of another network (open_clip reads big_vision's archives of SigLIP models)"
        return _unusable(path, fault)
    return _unusable(path, _damaged(path) or _misfit(path, expected) or f"cannot be loaded ({first_sentence(error)})")


def _unusable(path: Path, fault: str) -> EncoderUnavailable:
    return EncoderUnavailable(f"{printable_path(path)} could not be read as a checkpoint: it {fault}; {_EXPECTED}")


def first_sentence(error: Exception) -> str:
    """Return the first sentence of an error, without the advice that follows it (torch's is to load without care)."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0].split(". ")[0].rstrip(".:"), 200)


def _foreign(path: Path) -> str | None:
    """Name a file that holds no state dict, by its first bytes and the names in its archive."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    if not head:
        return "is empty"
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return f"is {kind}"
    if head.startswith(b"PK"):
        return _foreign_archive(path)
    if _looks_like_safetensors(head):
        return None if path.suffix == ".safetensors" else "is a safetensors file; give it the suffix .safetensors"
    if head.lstrip()[:1] == b"<":
        return "is a web page or XML, such as a server sends in place of a file; download it again"
    if path.suffix == ".safetensors":
        pickled = head.startswith(b"\x80")
        return "is a PyTorch file; give it the suffix .pt" if pickled else "is not a safetensors file, or is cut short"
    return None if head.startswith(b"\x80") else "is not a PyTorch file, or is damaged"


def _foreign_archive(path: Path) -> str | None:
    if not zipfile.is_zipfile(path):
        return "is a PyTorch file or other zip archive that is damaged or cut short"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "is a PyTorch file or other zip archive that is damaged"
    if any(name.endswith(".npy") for name in names):
        return None if path.suffix in NUMPY else "is a NumPy archive; give it the suffix .npz"
    if any(name.endswith("/constants.pkl") for name in names):
        return "is a TorchScript archive, which holds code and is not opened; save its state_dict() instead"
    if not any(name.endswith("/data.pkl") for name in names):
        return "is a zip archive without weights"
    return "is a PyTorch file; give it the suffix .pt" if path.suffix in (".safetensors", *NUMPY) else None


def _looks_like_safetensors(head: bytes) -> bool:
    """Tell whether a file starts as safetensors do: 8 bytes with the length of a JSON header, then the header."""
    return head[8:9] == b"{" and head[5:8] == bytes(3)


def _damaged(path: Path) -> str | None:
    """Say what keeps a file of the right kind from being read; None: it holds a state dict."""
    try:
        state = read_state(path)
    except Exception as error:  # noqa: BLE001 (damaged files make torch and safetensors raise errors of any type)
        if "weights only" in str(error).lower():
            return "is damaged, or holds Python objects other than tensors, which could run code and are not opened"
        return f"is damaged or cut short ({first_sentence(error)})"
    if not isinstance(state, Mapping):
        return f"holds a {type(state).__name__}, not a state dict"
    if not state or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()):
        return "holds no state dict of names and tensors"
    return None


def _misfit(path: Path, expected: Callable[[], Mapping[str, Tensor]]) -> str | None:
    """Say which tensors of a state dict do not fit the network; None: all fit."""
    network = expected()
    # The prefix is torch's DistributedDataParallel; open_clip removes it too.
    state = {name.removeprefix("module."): value for name, value in read_state(path).items()}
    foreign = is_transformers_layout(state)
    if foreign:
        state = from_transformers(state)
    missing = [name for name in network if name not in state]
    unknown = [name for name in state if name not in network]
    shapes = [
        f"{name} has shape {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in network.items()
        if name in state and state[name].shape != value.shape
    ]
    faults = []
    if foreign:
        faults.append("is in the layout of Hugging Face Transformers, and converted to open_clip's does not fit")
    if missing:
        faults.append(f"lacks {len(missing)} of the network's {len(network)} tensors: {_listed(missing)}")
    if unknown:
        faults.append(f"has {len(unknown)} others: {_listed(unknown)}")
    if shapes:
        faults.append(f"has {len(shapes)} of another shape: {_listed(shapes)}")
    return "; it ".join(faults) or None


def read_state(path: Path) -> Mapping[str, Tensor]:
    """Read a state dict; what the file holds need not be one."""
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    # Mapped, tensors are read when they are used; torch cannot map files of its format before 1.6.
    held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    state: Mapping[str, Tensor] = held.get("state_dict", held) if isinstance(held, dict) else held
    return state


def _listed(names: list[str]) -> str:
    more = ", …" if len(names) > _MOST_NAMED else ""
    return ", ".join(printable(name) for name in names[:_MOST_NAMED]) + more
