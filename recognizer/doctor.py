"""Report installed packages, devices and available weights."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions

from memory.wording import counted
from recognizer.results.run_info import package_versions


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        subject: what was checked.
        finding: the result.
        ok: False if a command would fail because of it.
    """

    subject: str
    finding: str
    ok: bool = True


def examine() -> Sequence[Check]:
    """Check versions, devices, precision, FAISS and weights; nothing is downloaded or changed."""
    return [*_versions(), *_devices(), _faiss(), *_weights(), _rerank(), _offline()]


def _versions() -> list[Check]:
    packages = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    return [Check("python", f"{platform.python_version()} on {platform.platform()}"), Check("packages", packages)]


def _devices() -> list[Check]:
    import torch

    from recognizer.encoder.device import choose_device, choose_precision

    device = choose_device("auto")
    gpus = [
        f"cuda:{number} {torch.cuda.get_device_name(number)} ({torch.cuda.mem_get_info(number)[1] / 2**30:.0f} GiB)"
        for number in range(torch.cuda.device_count())
    ]
    cpu = f"cpu with {counted(os.cpu_count() or 1, 'core')}, {counted(torch.get_num_threads(), 'thread')}"
    return [
        Check("devices", "; ".join([*gpus, cpu])),
        Check("default", f"{device}, {choose_precision('auto', device)}"),
    ]


def _faiss() -> Check:
    wheels = sorted(set(packages_distributions().get("faiss", ())))
    if len(wheels) > 1:
        return Check(
            "faiss",
            f"{' and '.join(wheels)} are installed side by side: they have the same module, and the one installed last "
            "has overwritten parts of the other. Uninstall all of them, then install one",
            ok=False,
        )
    try:
        import faiss
    except (ImportError, RuntimeError) as error:  # its GPU build raises the latter where CUDA's libraries are missing
        return Check("faiss", f"cannot be loaded: {error}", ok=False)

    from memory.index import gpu_count

    build = "GPU build" if hasattr(faiss, "StandardGpuResources") else "CPU build"
    return Check("faiss", f"{faiss.__version__}, {build}, {gpu_count()} GPUs visible to it")


def _weights() -> list[Check]:
    from recognizer.encoder import EncoderUnavailable
    from recognizer.encoder.starter.weights import starter_image_weights, starter_text_folder

    checks = []
    for subject, find in (
        ("starter image weights", starter_image_weights),
        ("starter text weights", starter_text_folder),
    ):
        try:
            checks.append(Check(subject, f"{find()} (sha256 as published)"))
        except EncoderUnavailable as error:
            checks.append(Check(subject, str(error), ok=False))
    checks.append(Check("hub cache", _hub_cache()))
    return checks


def _hub_cache() -> str:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = sorted(repository.repo_id for repository in scan_cache_dir().repos)
    except CacheNotFound:
        repositories = []
    return ", ".join(repositories) or "empty; tags of open_clip models need a network, or give a local checkpoint"


def _rerank() -> Check:
    from rerank.cache import default_cache_path

    packages = ("transformers", "httpx2", "vllm")
    versions = package_versions(packages)
    installed = ", ".join(f"{name} {versions[name]}" for name in packages if name in versions)
    missing = "" if "vllm" in versions else "; vllm is not installed, but a server can be used by its URL"
    cache = default_cache_path()
    size = f"{cache.stat().st_size / 2**20:.1f} MiB" if cache.exists() else "no file yet"
    return Check("rerank", f"{installed}{missing}; answers are cached in {cache} ({size})")


def _offline() -> Check:
    offline = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
    return Check("hub access", f"off, because {' and '.join(offline)} is set" if offline else "on")
