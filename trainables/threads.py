"""How many threads a run may compute on."""

import os


def own_threads() -> int:
    """OMP_NUM_THREADS, which on Ray is the run's `resources.cpu`; 1 if it is not set."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))
