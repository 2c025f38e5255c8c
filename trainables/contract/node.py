"""What a worker's node gives to a run: a folder for what can be made again, and a number of threads."""

import os
from pathlib import Path


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
