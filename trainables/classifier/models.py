"""Which models a classification study may name. No torch: `networks` builds and checks them."""

from importlib.util import find_spec

from spaces.errors import UsageError
from trainables.contract.trial import TrainSpec

SMALL_CNN, TIMM = "small_cnn", "timm/"  # `small_cnn` is ours


def check_name(model: str) -> None:
    """Refuse a model of a library that is not installed.

    Raises:
        UsageError: It is one.
    """
    if model.startswith(TIMM) and find_spec("timm") is None:
        raise UsageError(f"train.model: {model}: timm is not installed", "pip install 'rarecall[timm]'")


def check_small_cnn(train: TrainSpec) -> None:
    """Refuse weights for a network that has none to start from.

    Raises:
        UsageError: There are some.
    """
    if train.weights is not None:
        raise UsageError("train.weights: not for small_cnn, which learns from scratch in seconds")
