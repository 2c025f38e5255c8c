"""Running out of memory, by what torch, NumPy and the system say of it."""

import errno

import numpy as np
import pytest
import torch

from trainables.contract.memory import is_out_of_memory, out_of_memory, within_memory
from trainables.contract.node import GPUS
from trainables.contract.trial import OutOfMemory, TrainSpec

ON_CPU = (
    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"
)


def train(**changes: int) -> TrainSpec:
    return TrainSpec.model_validate(
        {"model": "small_cnn", "imgsz": 64, "batch": 12, "steps": 2, "eval_every": 1} | changes
    )


@pytest.mark.parametrize(
    ("error", "ran_out"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError(f"Caught RuntimeError in DataLoader worker process 0.\n{ON_CPU}"), True),
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (ValueError("out of memory, says a file name"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, ran_out: bool) -> None:
    assert is_out_of_memory(error) == ran_out
    with pytest.raises(OutOfMemory if ran_out else type(error)), within_memory(train()):
        raise error


def test_torch_and_numpy_really_say_so_on_this_machine() -> None:
    for ask in (lambda: torch.empty(2**60), lambda: np.ones(2**50)):
        with pytest.raises((RuntimeError, MemoryError)) as raised:
            ask()
        assert is_out_of_memory(raised.value)


@pytest.mark.parametrize(
    ("gpus", "changes", "said", "unsaid"),
    [
        pytest.param(
            "", {}, ["batch 12, imgsz 64, on a CPU", "below 12", "accumulate: 2"], "share", id="CPU"
        ),
        pytest.param("1", {}, ["on a whole GPU", "accumulate: 2"], "share", id="a GPU"),
        pytest.param("0.25", {}, ["on 0.25 of a GPU", "a larger share of it"], "whole", id="a share of one"),
        pytest.param(
            "1", {"accumulate": 4}, ["batch 12 in 4 parts", "accumulate: 6"], "share", id="in parts already"
        ),
        pytest.param("1", {"batch": 1}, ["a smaller train.imgsz"], "accumulate", id="an image at a time"),
    ],
)
def test_it_is_said_what_was_asked_and_what_would_fit(
    gpus: str, changes: dict[str, int], said: list[str], unsaid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(GPUS, raising=False)
    if gpus:
        monkeypatch.setenv(GPUS, gpus)
    message = str(out_of_memory(train(**changes), MemoryError("no room\nfor more")))
    assert "out of memory (no room); less is needed with" in message
    assert all(words in message for words in said)
    assert unsaid not in message


def test_parts_of_a_batch_are_equal() -> None:
    with pytest.raises(ValueError, match=r"accumulate must divide batch 12 .*, got 5"):
        train(accumulate=5)
