"""How many threads a run may compute on."""

import os


def own_threads() -> int:
    """The run's `resources.cpu`, which Ray gives its worker as OMP_NUM_THREADS; else 1."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))
