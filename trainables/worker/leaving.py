"""What a run leaves in a worker that will have another one, or none for a while: nothing."""

import gc
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """After the context, however it ends, its models are gone, and a GPU's memory is given back.

    A model is in cycles, so that it lives until they are looked for. Of a run that raised, or that was told
    to stop, which raises too, the frames hold it as long as the exception is on its way.
    """
    if gc.get_freeze_count() > 0:  # else this is the worker's first run
        gc.collect()  # what the caller has let go of since the last one
    # What lives on between runs is modules. Without this, looking through them takes a short run's time.
    gc.freeze()
    try:
        yield
    except BaseException as error:
        _forget_frames(error)
        raise
    finally:
        gc.collect()
        torch = sys.modules.get("torch")  # a run that needs none has not loaded it
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _forget_frames(error: BaseException) -> None:
    """Drop the variables of all calls that an exception, and those that it came of, have ended."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        waiting += [one.__context__, one.__cause__]
