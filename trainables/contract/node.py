"""What a worker's node gives to a run: a folder for what can be made again, threads, a share of a GPU."""

import os
from pathlib import Path
from typing import Literal

GPUS = "RARECALL_GPUS"  # set by whatever starts a run on a worker


def cache_folder() -> Path:
    """`$RARECALL_CACHE`, else `rarecall` in the XDG cache folder; created if absent.

    For drawn demo data, decoded images, third-party settings. Never results.
    """
    chosen = os.environ.get("RARECALL_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(chosen) if chosen else Path(base) / "rarecall"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def own_threads() -> int:
    """OMP_NUM_THREADS, which on Ray is the run's `resources.cpu`; 1 if it is not set."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def own_gpus() -> float:
    """How much of a GPU the run was given: 0, a share of one, or 1.

    $RARECALL_GPUS, which on Ray is what Ray assigned to the run; 0 if it is not set.
    """
    return float(os.environ.get(GPUS, "0"))


def own_device() -> Literal["cpu", "cuda"]:
    """The kind of device, in torch's words, that a run has to train on."""
    return "cuda" if own_gpus() > 0 else "cpu"
