"""The networks that a classification study may name, built untrained; nothing is downloaded.

`small_cnn` is ours; a torchvision classification model goes by its name, a timm model by `timm/<name>`. Those
two see three channels (a grey image three times). Weights come from a file; their last layer is dropped if it
is for another number of classes.
"""

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from spaces.errors import UsageError
from trainables.classifier.models import SMALL_CNN, TIMM
from trainables.classifier.small_cnn import SmallCnn
from trainables.contract.memory import is_out_of_memory
from trainables.contract.trial import TrainSpec
from trainables.contract.trust import bounded_memory, refuse_bomb, trust_hint, trusts_weights

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of RGB in [0, 1]
WRAPPERS = ("state", "state_dict", "model")  # keys under which checkpoints keep their tensors
COUNTER = "num_batches_tracked"  # of batch norm; files of old torch lack it
IMPOSSIBLE = (RuntimeError, ValueError, AssertionError)  # what the libraries raise for an unfit size


@dataclass(frozen=True)
class Network:
    """A network, and what it wants to see.

    Attributes:
        module: (batch, channels, side, side) -> logits (batch, n_classes).
        mean: (channels,) subtracted from pixels in [0, 1]; a grey image goes to all channels.
        std: (channels,) what they are divided by after that.
        arguments: What its library built it with, beside the number of classes; plain values.
        loaded: What came from `train.weights`: file, hash of its content, tensors loaded and in all; or None.
    """

    module: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    arguments: dict[str, Any]
    loaded: dict[str, Any] | None = None

    @property
    def channels(self) -> int:
        """Of its input."""
        return len(self.mean)


def build_network(train: TrainSpec, *, channels: int, n_classes: int) -> Network:
    """The network of `train`, drawn from torch's generator, with its weights if there are any.

    Args:
        train: Names model, size and weights.
        channels: Of the images, 1 or 3.
        n_classes: Outputs.

    Raises:
        UsageError: There is no such model, or the weights are not for it.
    """
    module, arguments = _module(train, channels, n_classes), _arguments(train.model, train.imgsz)
    inputs = channels if train.model == SMALL_CNN else 3
    if train.weights is None:
        return Network(module, (0.5,) * inputs, (0.5,) * inputs, arguments)
    file = Path(train.weights)
    stored = _read_weights(file)
    fitting = _fitting(train, module, stored, n_classes)
    module.load_state_dict(fitting, strict=False)
    usual = getattr(module, "pretrained_cfg", {})  # of timm
    mean = stored.mean if stored.mean is not None else tuple(usual.get("mean", IMAGENET[0]))
    std = stored.std if stored.std is not None else tuple(usual.get("std", IMAGENET[1]))
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:16]
    loaded = {"file": str(file), "sha256": digest, "tensors": len(fitting), "of": len(module.state_dict())}
    return Network(module, mean, std, arguments, loaded)


def check_network(train: TrainSpec, n_classes: int, *, on_gpu: bool = False) -> None:
    """Refuse a network that cannot be built, cannot learn from images of this size, or has other weights.

    A step is made with tensors that have a shape and no values: it takes no memory.

    Raises:
        UsageError: It is one of these.
    """
    batch, side = train.batch, train.imgsz
    module = _without_values(train, n_classes)
    outsized = _note_outsized_kernels(module)
    try:
        module.train()(torch.zeros(batch, 3, side, side, device="meta")).sum().backward()
    except IMPOSSIBLE as error:
        raise UsageError(
            f"train.model: {train.model} cannot learn from {batch} images of {side} x {side}: {error}",
            "change train.imgsz or train.batch, or name another model",
        ) from error
    if outsized and train.amp == "bf16" and not on_gpu:
        raise UsageError(
            f"train.amp: bf16 is not safe with {train.model} at imgsz {side} on a CPU: the kernels of "
            f"{len(outsized)} convolutions, e.g. {outsized[0]}, are too large for their input",
            "use amp: off, a larger train.imgsz, or a GPU (resources.gpu)",
        )
    if train.weights is not None:
        _fitting(train, module, _read_weights(Path(train.weights)), n_classes)


def _note_outsized_kernels(module: nn.Module) -> list[str]:
    """A list that the next forward pass fills: the convolutions with weights that may see only padding.

    oneDNN (torch 2.14.1, AVX512-BF16) leaves the bfloat16 gradient of some such weights unwritten.
    """
    outsized: list[str] = []

    def note(name: str, convolution: nn.Conv2d, given: tuple[Tensor, ...]) -> None:
        of_both_sides = zip(convolution.kernel_size, convolution.dilation, convolution.stride, strict=True)
        reach = max(size // 2 * dilation * stride for size, dilation, stride in of_both_sides)
        if reach >= min(given[0].shape[-2:]):
            outsized.append(name)

    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_pre_hook(partial(note, name))
    return outsized


def _without_values(train: TrainSpec, n_classes: int) -> nn.Module:
    """The module on torch's meta device: its tensors have shapes only."""
    try:
        with torch.device("meta"):
            return _module(train, 3, n_classes)
    except NotImplementedError:  # it computes with tensors while it is built
        return _module(train, 3, n_classes).to("meta")


def _module(train: TrainSpec, channels: int, n_classes: int) -> nn.Module:
    name, side = train.model, train.imgsz
    if name == SMALL_CNN:
        return SmallCnn(channels, n_classes)
    if name.startswith(TIMM):
        return _timm_module(name, side, n_classes)
    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(
            f"train.model: no such model '{name}'",
            _meant(name, [SMALL_CNN, *known])
            + f"{SMALL_CNN}, {TIMM}<name>, or a name of torchvision.models.list_models(), such as resnet18",
        )
    arguments = _arguments(name, side)
    return _built(name, side, lambda: models.get_model(name, num_classes=n_classes, **arguments))


def _meant(name: str, known: Sequence[str]) -> str:
    """The nearest of `known` as a question, or nothing."""
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'? " if close else ""


def _arguments(name: str, side: int) -> dict[str, Any]:
    """Arguments of a library's model that is made for one image size, or returns more than logits."""
    if name.startswith(TIMM):
        import timm  # noqa: PLC0415  (an extra; `models.check_name` has said so if it is not there)

        usual = timm.models.get_pretrained_cfg(name.removeprefix(TIMM))
        return {"img_size": side} if usual is not None and usual.fixed_input_size else {}
    if name.startswith("vit_"):
        return {"image_size": side}
    if name.startswith("maxvit"):
        return {"input_size": (side, side)}
    # Auxiliary heads would return more than logits; the second only silences a warning.
    return {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}


def _timm_module(name: str, side: int, n_classes: int) -> nn.Module:
    import timm  # noqa: PLC0415  (as in `_arguments`)

    short = name.removeprefix(TIMM)
    if not timm.is_model(short):
        raise UsageError(
            f"train.model: timm {timm.__version__} has no model '{short}'",
            _meant(short, timm.list_models()).replace("'", f"'{TIMM}", 1) + "see timm.list_models()",
        )
    arguments = _arguments(name, side)
    return _built(short, side, lambda: timm.create_model(short, num_classes=n_classes, **arguments))


def _built(name: str, side: int, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except NotImplementedError:  # of the meta device, not of the size
        raise
    except IMPOSSIBLE as error:
        raise UsageError(f"train.model: there is no {name} for train.imgsz {side}: {error}") from error


@dataclass(frozen=True)
class _Weights:
    """A file of weights; `mean` and `std` of the images that it was trained on, if it says so."""

    state: dict[str, Tensor]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def _read_weights(file: Path) -> _Weights:
    if not file.is_file():
        raise UsageError(f"train.weights: no such file: {file}", "a path is taken relative to the study file")
    refuse_bomb(file)
    with bounded_memory(file):
        stored = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    wrapped: Any = next((stored[key] for key in WRAPPERS if isinstance(stored.get(key), Mapping)), stored)
    state = {name.removeprefix("module."): value for name, value in wrapped.items() if torch.is_tensor(value)}
    mean, std = (tuple(stored[key]) if isinstance(stored.get(key), list) else None for key in ("mean", "std"))
    return _Weights(state, mean, std)


def _read_torch(file: Path) -> dict[str, Any]:
    trusted = trusts_weights()
    try:
        stored = torch.load(file, map_location="cpu", weights_only=not trusted)
    except Exception as error:  # whatever the pickle of a stranger leads to
        if is_out_of_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "" if trusted else f" is not loaded, for it would run code; {trust_hint()}"
        raise UsageError(
            f"train.weights: {file} cannot be read: {reason}",
            f"a state_dict as torch.save writes it; a whole pickled model{hint}",
        ) from error
    if trusted:
        stored = _states(stored)
    if not isinstance(stored, Mapping):
        raise UsageError(f"train.weights: {file} holds a {type(stored).__name__}, no state_dict")
    return dict(stored)


def _states(stored: Any) -> Any:
    """What was stored, with the tensors of a whole model in the place of that model."""
    if isinstance(stored, Mapping):
        return {key: _states(value) for key, value in stored.items()}
    return stored.state_dict() if isinstance(stored, nn.Module) else stored


def _read_safetensors(file: Path) -> dict[str, Any]:
    if find_spec("safetensors") is None:
        raise UsageError(f"train.weights: {file}: safetensors is not installed", "pip install rarecall[timm]")
    from safetensors import SafetensorError  # noqa: PLC0415  (comes with timm, an extra)
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        return dict(load_file(file))
    except SafetensorError as error:
        raise UsageError(f"train.weights: {file} cannot be read: {error}") from error


def _fitting(train: TrainSpec, module: nn.Module, weights: _Weights, n_classes: int) -> dict[str, Tensor]:
    """The tensors that go into `module`: all of them, but perhaps those of its last layer."""
    own, given = module.state_dict(), weights.state
    other = _without_values(train, n_classes + 1).state_dict()
    head = {name for name, value in own.items() if other[name].shape != value.shape}
    fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
    lacking = [name for name in own if name not in {*fitting, *head} and not name.endswith(COUNTER)]
    if lacking:
        name = lacking[0]
        got = f"{tuple(given[name].shape)} there" if name in given else "not there"
        raise UsageError(
            f"train.weights: {train.weights} is not for {train.model} at imgsz {train.imgsz}: {len(lacking)} "
            f"of {len(own)} tensors do not fit, e.g. {name}, {tuple(own[name].shape)} in the model and {got}"
        )
    return fitting
