"""What a worker's node gives to a run: a folder, threads, a share of a GPU; and what a run took of it."""

import os
from pathlib import Path
from typing import Literal

from spaces.errors import RunError
from spaces.frozen import Frozen

OTHER_CACHE = "set RARECALL_CACHE to one on this machine's own disk, with room"
GPUS = "RARECALL_GPUS"  # set by whatever starts a run on a worker


class NodeLacks(Exception):
    """A node does not see what a run reads, though the driver does."""


class Used(Frozen):
    """What a run took of its node, from where it began to compute to the end of its first epoch.

    Attributes:
        seconds: Of wall time.
        cpus: That it and the processes it started kept busy, on average: their CPU time over `seconds`.
        memory: At its peak, bytes that no file backs.
        gpu_busy: Share of the time in which its GPU computed, in [0, 1]; None on a CPU, and where the GPU
            cannot say.
        gpu_memory: Of the GPU, at its peak, bytes: reserved for tensors, and what CUDA takes beside; 0 on a
            CPU.
        gpu_total: Bytes that the GPU has; 0 on a CPU.
        node: What the node has, by Ray's names: `CPU`, `GPU`, `memory` in bytes, …
    """

    seconds: float
    cpus: float
    memory: int
    gpu_busy: float | None
    gpu_memory: int
    gpu_total: int
    node: dict[str, float]


def cache_folder() -> Path:
    """`$RARECALL_CACHE`, else `rarecall` in the XDG cache folder; created if absent.

    For drawn demo data, decoded images, third-party settings, mirrors of studies on a storage. Never results
    that are nowhere else.

    Raises:
        RunError: It cannot be created.
    """
    chosen = os.environ.get("RARECALL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(chosen) if chosen else Path(base) / "rarecall"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f"the cache folder {folder} cannot be written: {error.strerror or error}"
        raise RunError(said, OTHER_CACHE) from error
    return folder.resolve()


def own_threads() -> int:
    """OMP_NUM_THREADS, which on Ray is the run's `resources.cpu`; 1 if it is not set."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def decoding_threads() -> int:
    """Threads to decode images with: a run's share of this machine on a cluster, elsewhere all of it."""
    return int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def loader_start(workers: int) -> Literal["fork"] | None:
    """How a loader starts its processes, in torch's words; with others its data would be pickled."""
    return "fork" if workers else None


def own_gpus() -> float:
    """How much of a GPU the run was given: 0, a share of one, or 1.

    $RARECALL_GPUS, which on Ray is what Ray assigned to the run; 0 if it is not set.
    """
    return float(os.environ.get(GPUS, "0"))


def own_device() -> Literal["cpu", "cuda"]:
    """The kind of device, in torch's words, that a run has to train on."""
    return "cuda" if own_gpus() > 0 else "cpu"
