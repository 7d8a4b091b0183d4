"""Start Ray on this machine or join a cluster, and plan how many actors its processors and GPUs carry."""

from __future__ import annotations

import logging
import os
import re
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from recognizer.errors import RecognizerError

INSTALL = 'pip install "recognizer[ray]"'
# More threads that encode with one copy of the weights gain nothing; fewer copies leave memory for the rest.
_MOST_THREADS = 4
# Decoding a photograph takes about a fifth of the time of encoding it on the same processor.
_DECODING_SHARE = 0.25
# Batches of pixels on their way: 32 images of 224 x 224 take 5 MB, and a few batches wait for each processor. Ray's own
# choice, 30 % of the memory, is too much for a laptop.
_STORE_BYTES_PER_CPU = 128 * 2**20
_FEWEST_STORE_BYTES = 256 * 2**20
_CONNECT_S = 10.0
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",  # errors are raised, too
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the default of later versions; without it, a warning
}


# The line of a traceback that says what was raised; the lines of code are indented.
_RAISED = re.compile(r"^([A-Za-z_][\w.]*): (\S.*)$", re.MULTILINE)


class EngineError(RecognizerError):
    """Ray is not installed, cannot be reached, or could not finish the work."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The actors of a run.

    Attributes:
        encoders: actors that encode, each with a copy of the weights.
        encoder_threads: of each, where it computes on processors.
        encoder_cpus: processors that each takes.
        encoder_gpus: GPUs that each takes, 0 or 1.
        decoders: actors that read and decode.
        decoder_cpus: processors that each takes.
    """

    encoders: int
    encoder_threads: int
    encoder_cpus: float
    encoder_gpus: int
    decoders: int
    decoder_cpus: float


def plan_workers(nodes: Sequence[Mapping[str, float]], *, gpus: bool) -> Workers:
    """Divide the processors of a cluster among actors that decode and actors that encode.

    Args:
        nodes: the resources `CPU` and `GPU` of each machine.
        gpus: whether GPUs encode, one actor for each; else processors do.

    Raises:
        EngineError: there is nothing to compute with.
    """
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    if not sum(cpus):
        raise EngineError("Ray has no processors to decode with; start it with at least one CPU")
    if gpus:
        encoders = int(sum(node.get("GPU", 0) for node in nodes))
        if not encoders:
            raise EngineError("Ray has no GPU; give --device cpu, or start it on machines with GPUs")
        share = min(1.0, sum(cpus) / (2 * encoders))  # so that as much is left for decoding, where processors are few
        decoders = max(1, int(sum(cpus) - share * encoders))
        return Workers(encoders, 1, share, 1, decoders, min(1.0, (sum(cpus) - share * encoders) / decoders))
    threads = min(_MOST_THREADS, max(1, min(cpu for cpu in cpus if cpu) // 2))
    encoders = sum(cpu // threads for cpu in cpus)
    return Workers(encoders, threads, (1 - _DECODING_SHARE) * threads, 0, encoders * threads, _DECODING_SHARE)


def require_ray() -> None:
    """Refuse, before any work starts, to go on without Ray.

    Raises:
        EngineError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("ray") is None or find_spec("ray.data") is None:
        raise EngineError(f"--engine ray needs Ray, which is not installed: {INSTALL}")


@contextmanager
def connected(address: str | None = None) -> Iterator[Any]:
    """Start Ray on this machine, or join a cluster; yields the module `ray`.

    Ray that the caller has started already is used, and not stopped.

    Args:
        address: of a cluster; None: Ray is started here, for this run, on the loopback interface.

    Raises:
        EngineError: Ray is not installed, or cannot be reached or started.
    """
    require_ray()
    os.environ.update(_QUIET)
    if address is None:  # the name of the variable is older than what it does: no other machine can connect
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"address": address}
    if address is not None:
        _require_answer(address)
    else:
        store = max(_FEWEST_STORE_BYTES, _STORE_BYTES_PER_CPU * (os.cpu_count() or 1))
        options = {"address": "local", "include_dashboard": False, "object_store_memory": store}
    try:
        with _silence():
            ray.init(
                **options,
                runtime_env={"env_vars": {"OPENBLAS_NUM_THREADS": str(algebra_threads())}},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:
        where = "Ray cannot be started on this machine" if address is None else f"no Ray cluster answers at {address}"
        raise EngineError(f"{where}: {_first_line(str(error))}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def planned(address: str | None, device: str) -> Iterator[tuple[Any, Workers]]:
    """Start Ray or join a cluster; yields the module `ray` and the actors of a run there.

    Args:
        address: of the cluster; None: Ray is started on this machine.
        device: `auto` (GPUs where Ray has some), `cuda`, `cpu` or `mps`.

    Raises:
        EngineError: Ray is missing, cannot be reached, or has nothing to compute with.
    """
    with connected(address) as ray:
        nodes = machines(ray)
        gpus = device.startswith("cuda") or (device == "auto" and any(node.get("GPU") for node in nodes))
        yield ray, plan_workers(nodes, gpus=gpus)


def machines(ray: Any) -> list[Mapping[str, float]]:  # noqa: ANN401  a module without types
    """Return the resources of each machine of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def algebra_threads() -> int:
    """Return how many threads NumPy's products have in this process.

    Actors get as many: products round differently with other numbers of threads, which the last decimals of a score
    would show.
    """
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdecimal() and int(os.environ[name]):
            return int(os.environ[name])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def engine_error(error: Exception) -> EngineError:
    """Say in one sentence what an error of Ray is about: what an actor raised, without the tracebacks around it."""
    raised = [match for match in _RAISED.finditer(str(error)) if not match[1].startswith("ray.")]
    text = f"{raised[-1][1].rpartition('.')[2]}: {raised[-1][2]}" if raised else _first_line(str(error))
    return EngineError(f"the work on Ray failed: {text}")


@contextmanager
def _silence() -> Iterator[None]:
    """Hide what starting Ray writes to standard error; what goes wrong is raised.

    Its core announces the level of its log there. LanceDB warns of forks, but the forked processes start other programs
    at once.
    """
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def _require_answer(address: str) -> None:
    """Refuse an address where nothing listens; Ray itself would try for minutes."""
    place = re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address)
    if place is None:  # `auto`, the cluster that this machine belongs to
        return
    try:
        socket.create_connection((place[1], int(place[2])), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise EngineError(f"no Ray cluster answers at {address}: {error}") from None


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "Ray gives no reason")
