"""Where a run computes: on what it was given, and afterwards what was read back from the training."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from trainables.contract.node import own_device, own_gpus
from trainables.contract.trial import ReceiptMismatch
from trainables.strategy.receipt import common

AMP = {"float32": "off", "bfloat16": "bf16"}  # what logits are of -> `train.amp`
BESIDE_TENSORS = 3 * 2**28  # bytes of a GPU that CUDA takes for each process: its context, its kernels


def given_device() -> torch.device:
    """The GPU if the run was given one, or a share; else the CPU, even where a GPU is to be seen.

    From here on this process has no more of the GPU's memory for tensors than the run's share. That holds
    until it is set anew: a worker may have had a run with another share before.

    Raises:
        ReceiptMismatch: It was given one, and torch sees none: it would train on the CPU, in silence.
    """
    device = torch.device(own_device())
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ReceiptMismatch(f"resources.gpu: asked {own_gpus():g}, but torch sees no GPU ({_why_none()})")
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(memory_fraction(own_gpus(), total))
    return device


def memory_fraction(share: float, total: int) -> float:
    """The part of a GPU's memory that a run's tensors may take, in (0, 1].

    What CUDA takes for the process itself comes out of the run's share, too: with all shares together the
    memory would not suffice otherwise, and a run within its own would be refused what another one took.

    Args:
        share: Of the GPU that the run was given, in (0, 1]; all of it is bounded by nothing.
        total: The GPU's memory, bytes.

    Example:
        >>> memory_fraction(0.25, 80 * 2**30)
        0.240625
    """
    if share >= 1:
        return 1.0
    return max(share - BESIDE_TENSORS / total, share / 2)  # of a small GPU half is better than nothing


def _why_none() -> str:
    """Torch's own words, e.g. that the driver is too old for it."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch leaves it bare
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return "it gives no reason"


def of_device(model: nn.Module, forward_dtypes: Iterable[str | None]) -> dict[str, Any]:
    """For a receipt: the device that the parameters lie on, and the precision of training's forward passes.

    Args:
        model: As trained.
        forward_dtypes: `dtype_name` of the logits of each branch of the model.
    """
    dtype = common(forward_dtypes)
    return {
        "device": common(parameter.device.type for parameter in model.parameters()),
        "forward_dtype": dtype,
        "amp": None if dtype is None else AMP.get(dtype, dtype),
    }


def dtype_name(logits: torch.Tensor) -> str:
    """E.g. `bfloat16`."""
    return str(logits.dtype).removeprefix("torch.")
