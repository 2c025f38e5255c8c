"""Where a run computes: on what it was given, and afterwards what was read back from the training."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from trainables.contract.node import own_device, own_gpus
from trainables.contract.trial import ReceiptMismatch
from trainables.strategy.receipt import common

AMP = {"float32": "off", "bfloat16": "bf16"}  # what logits are of -> `train.amp`


def given_device() -> torch.device:
    """The GPU if the run was given one, or a share; else the CPU, even where a GPU is to be seen.

    Raises:
        ReceiptMismatch: It was given one, and torch sees none: it would train on the CPU, in silence.
    """
    device = torch.device(own_device())
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ReceiptMismatch(f"resources.gpu: asked {own_gpus():g}, but torch sees no GPU ({_why_none()})")
    return device


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
