"""Running out of memory, by what torch, NumPy and the system then say; torch itself is not needed."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from trainables.contract.node import own_gpus
from trainables.contract.trial import OutOfMemory, TrainSpec

# torch raises a plain RuntimeError on a CPU, and passes on what a loader's process raised as one.
SIGNS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "defaultcpuallocator",
    "cublas_status_alloc_failed",
)


@contextmanager
def within_memory(train: TrainSpec) -> Iterator[None]:
    """Within the context, running out of memory is an `OutOfMemory` that says what was asked and would fit.

    Raises:
        OutOfMemory: The memory did not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(train, error) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or beside it."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in said for sign in SIGNS)


def out_of_memory(train: TrainSpec, error: BaseException | None) -> OutOfMemory:
    """What to raise: what the run asked for, what was said, and what would fit."""
    gpus = own_gpus()
    place = "on a CPU" if gpus == 0 else "on a whole GPU" if gpus >= 1 else f"on {gpus:g} of a GPU"
    parts = f" in {train.accumulate} parts" if train.accumulate > 1 else ""
    asked = f"batch {train.batch}{parts}, imgsz {train.imgsz}, {place}"
    said = f" ({(str(error) or type(error).__name__).splitlines()[0]})" if error is not None else ""
    less = [f"a train.batch below {train.batch}"] if train.batch > 1 else ["a smaller train.imgsz"]
    if 0 < gpus < 1:
        less.append("a larger share of it, resources.gpu")
    finer = _next_divisor(train.batch, train.accumulate)
    if finer is not None:
        less.append(f"train.accumulate: {finer}, which computes a batch in so many parts")
    return OutOfMemory(f"{asked}: out of memory{said}; less is needed with {', or '.join(less)}")


def _next_divisor(batch: int, parts: int) -> int | None:
    """The least number of equal parts of a batch that is above `parts`, or None."""
    return next((more for more in range(parts + 1, batch + 1) if batch % more == 0), None)
