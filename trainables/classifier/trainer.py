"""The classifier: a small CNN, AdamW, an EMA of its weights, and the strategy's families around them.

Everything random is a function of (seed, epoch) or of torch's generators, whose states are in the
checkpoint; so a resumed run ends with the same weights, bit for bit on a CPU, as one that was never stopped.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainables.classifier.applied import AppliedStrategy
from trainables.classifier.feeding import Parts, fed
from trainables.classifier.models import check_name
from trainables.classifier.networks import build_network
from trainables.contract.node import own_threads
from trainables.contract.predictions import ClassificationPredictions, save_predictions
from trainables.contract.trial import (
    TRAIN_RECALL,
    Diverged,
    EpochMetrics,
    OnEpoch,
    Trained,
    TrainSpec,
    TrialFolder,
    TrialSpec,
)
from trainables.data.sources import images_of
from trainables.evaluation.calibration.fitting import frozen, tuned_on
from trainables.evaluation.classification import classification_metrics, untouched_metrics
from trainables.strategy.device import dtype_name, given_device, of_device

STATE, WEIGHTS, PREDICTIONS = "state.pt", "weights.pt", "predictions.npz"
EMA_DECAY = 0.97  # averages over about 30 steps: short runs have no time for more
WARM_UP = 0.1  # share of the steps
IMAGES_AT_ONCE = 128  # in a prediction; with more, what a CPU computes leaves its caches
PIXELS_AT_ONCE = 2**23  # times channels: what a deep network makes of them must fit a small GPU


def train_classifier(spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Trained:
    """Train `spec` and measure it; the contract is `run.run_trial`'s.

    Raises:
        Diverged: The loss is not finite.
        ReceiptMismatch: The run was given a GPU, and torch sees none.
        UsageError: The model is not known.
    """
    check_name(spec.train.model)
    with _isolated_torch(spec.seed):
        run = _Run(spec)
        if folder.resume is not None:
            run.restore(folder.resume / STATE)
        untouched = None
        warm = warm_epochs(spec.train)
        while run.epoch < spec.train.epochs and not out_of_patience(run.macro_f1[warm:], spec.train.patience):
            run.train_epoch()
            untouched = run.predict("val")
            metrics = untouched_metrics(untouched)
            run.macro_f1.append(metrics["macro_f1"] or 0.0)
            if folder.saves.due(last=run.epoch == spec.train.epochs):
                _save(folder.checkpoint / STATE, run.state())
            on_epoch(EpochMetrics(epoch=run.epoch, metrics=metrics))
        if untouched is None:  # resumed after its last epoch
            untouched = run.predict("val")
        tune, floor = spec.train.tune, spec.train.tune_min_precision
        val = tuned_on(untouched, goal=tune, min_precision=floor)
        predictions = val if spec.split == "val" else frozen(run.predict(spec.split), val)
        save_predictions(folder.result / PREDICTIONS, predictions)
        _save(folder.result / WEIGHTS, run.weights(val))
        drawn = run.drawn.numpy()
        return Trained(
            metrics=classification_metrics(predictions) | {TRAIN_RECALL: run.train_recall()},
            applied=run.receipt(),
            exposure=float(drawn[run.strategy.rare].sum() / drawn.sum()),
            images_seen=int(drawn.sum()),
            unique_images=int((drawn > 0).sum()),
            steps=run.steps_made(),
            device="cpu" if run.device.type == "cpu" else torch.cuda.get_device_name(run.device),
        )


def learning_rate(step: int, *, steps: int, peak: float, final: float) -> float:
    """Rate of a step, counted from 0: linear warm-up to `peak`, then half a cosine to `peak * final`."""
    warm = _warm_steps(steps)
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm + 1) / (steps - warm)
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)


def warm_epochs(train: TrainSpec) -> int:
    """The epochs in which the learning rate still rises: standing still there says nothing."""
    return math.ceil(_warm_steps(train.steps) / train.eval_every)


def _warm_steps(steps: int) -> int:
    return max(1, round(WARM_UP * steps))


def out_of_patience(values: Sequence[float], patience: int) -> bool:
    """Whether none of the last `patience` values is above all before them; never with a patience of 0."""
    return 0 < patience < len(values) and max(values[-patience:]) <= max(values[:-patience])


class _Run:
    """One training run: its data, its objects, and how far it is."""

    def __init__(self, spec: TrialSpec) -> None:
        train = spec.train
        self.spec = spec
        self.device = given_device()
        self.data = images_of(spec.data.source, train.imgsz, spec.data.pixel_max)
        self.splits, self.names = self.data.splits, self.data.class_names
        self.minority = sorted(self.names.index(name) for name in spec.data.minority)
        self.strategy = AppliedStrategy(spec, self.splits["train"], self.names, self.minority, self.device)
        self.parts_of_run = Parts(self.strategy, self.splits["train"], train)
        self._fed: Iterator[tuple[npt.NDArray[np.int64], Tensor]] | None = None
        self.network = build_network(train, channels=self.data.channels, n_classes=len(self.names))
        # Channels last in memory and a fused optimizer: a sixth to a fifth less time for a training step.
        self.model: nn.Module = self.network.module.to(memory_format=torch.channels_last).to(self.device)
        follow = get_ema_multi_avg_fn(EMA_DECAY)  # type: ignore[no-untyped-call]  # torch leaves it bare
        self.ema = AveragedModel(self.model, multi_avg_fn=follow, use_buffers=True)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=train.lr, weight_decay=train.weight_decay, fused=True
        )
        self.epoch = 0
        self.macro_f1: list[float] = []  # on val, after each epoch
        self.drawn = torch.zeros(len(self.strategy.kept), dtype=torch.int64)  # how often each image was drawn
        self.largest_batch = self.parts = 0  # images of a step; times that images went through the network
        self.peak_lr = 0.0
        self.forward_dtype: str | None = None  # of the logits in training

    def train_epoch(self) -> None:
        """`eval_every` optimizer steps."""
        train, criterion = self.spec.train, self.strategy.criteria[self.epoch]
        if self._fed is None:
            self._fed = fed(self.parts_of_run, self.epoch, on_gpu=self.device.type == "cuda")
        total = torch.zeros((), device=self.device)
        self.model.train()
        first = self.epoch * train.eval_every
        for step in range(first, first + train.eval_every):
            lr = learning_rate(step, steps=train.steps, peak=train.lr, final=train.lr_final)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.zero_grad()
            drawn = []
            for index, images in islice(self._fed, train.accumulate):
                loss = self._loss(index, images, criterion) / train.accumulate
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it bare
                total += loss.detach()
                drawn.append(index)
            self.optimizer.step()
            self.ema.update_parameters(self.model)
            self._count(np.concatenate(drawn))
        if not math.isfinite(total.item()):  # once an epoch: it waits for the GPU
            raise Diverged(f"the loss is not finite in epoch {self.epoch + 1}")
        self.epoch += 1

    def _loss(self, index: npt.NDArray[np.int64], images: Tensor, criterion: nn.Module) -> Tensor:
        """The mean loss of images kept that go through the network together."""
        labels = torch.from_numpy(self.strategy.labels[index]).to(self.device)
        with self._autocast():
            logits = self.model(self._to_input(images))
        self.forward_dtype = dtype_name(logits)
        self.parts += 1
        loss: Tensor = criterion(logits.float(), labels)
        return loss

    def train_recall(self) -> float | None:
        """Minority recall of the averaged weights on the training images, not augmented."""
        rare = np.flatnonzero(np.isin(self.splits["train"].labels, self.minority))
        return classification_metrics(self._predict("train", rare))["minority_recall"]

    def predict(self, split: str) -> ClassificationPredictions:
        """What the averaged weights say about one split."""
        return self._predict(split, np.arange(len(self.splits[split].labels)))

    def _predict(self, split: str, rows: npt.NDArray[np.int64]) -> ClassificationPredictions:
        """The same about some images of a split."""
        data, size = self.splits[split], self.spec.train.imgsz**2 * self.data.channels
        chunks = _chunks(rows, max(1, min(IMAGES_AT_ONCE, PIXELS_AT_ONCE // size)))
        self.ema.eval()
        with torch.inference_mode(), self._autocast():
            pixels = (torch.from_numpy(data.images[chunk]) for chunk in chunks)
            parts = [self.ema(self._to_input(chunk)).float().cpu() for chunk in pixels]
        logits = torch.cat(parts).numpy()
        if not np.isfinite(logits).all():
            raise Diverged(f"the weights are not finite after epoch {self.epoch}")
        return ClassificationPredictions.untouched(
            split=split,
            class_names=np.array(self.names),
            minority=np.array(self.minority),
            image=data.ids[rows],
            source=data.sources[rows],
            label=data.labels[rows],
            logits=logits,
            weight=data.weight[rows],
        )

    def state(self) -> dict[str, Any]:
        """All that is needed to go on exactly from the end of this epoch."""
        return {
            "epoch": self.epoch,
            "macro_f1": self.macro_f1,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "drawn": self.drawn,
            "largest_batch": self.largest_batch,
            "parts": self.parts,
            "peak_lr": self.peak_lr,
            "forward_dtype": self.forward_dtype,
            "focal_scale": self.strategy.focal_scale.stored(),
        }

    def restore(self, path: Path) -> None:
        """Go back to what `state` returned."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"].cpu())
        if self.device.type == "cuda" and state.get("cuda_rng") is not None:
            torch.cuda.set_rng_state(state["cuda_rng"].cpu(), self.device)  # dropout's
        self.drawn = state["drawn"].cpu()
        self.epoch, self.macro_f1 = state["epoch"], state["macro_f1"]
        self.largest_batch, self.peak_lr = state["largest_batch"], state["peak_lr"]
        # 0.1.0 stored none of these; it had a part for each step, and the next step says the type.
        self.parts = state.get("parts", self.steps_made())
        self.forward_dtype = state.get("forward_dtype")
        self.strategy.focal_scale.restore(state.get("focal_scale"), self.device)

    def weights(self, val: ClassificationPredictions) -> dict[str, Any]:
        """The averaged weights, with what is needed to build their network again and to decide as on val.

        The decision is `argmax(logits + bias)`; the probabilities are `softmax(logits / temperature)`.
        """
        return {
            "model": self.spec.train.model,
            "arguments": self.network.arguments,
            "class_names": list(self.names),
            "imgsz": self.spec.train.imgsz,
            "image_channels": self.data.channels,  # 1 where a grey image goes to all channels of the network
            "pixel_max": self.spec.data.pixel_max,  # None: 65535
            "amp": self.spec.train.amp,
            "channels": self.network.channels,
            "mean": list(self.network.mean),
            "std": list(self.network.std),
            "bias": torch.from_numpy(val.bias),  # (n_classes,)
            "temperature": val.temperature,
            "state": {name: value.cpu().contiguous() for name, value in self.ema.module.state_dict().items()},
        }

    def steps_made(self) -> int:
        """Optimizer steps, by AdamW's own count."""
        return int(next(iter(self.optimizer.state.values()))["step"])

    def receipt(self) -> dict[str, Any]:
        """What was used: of the strategy, and read from data set, network and optimizer."""
        return {
            **self.strategy.receipt(self.drawn.numpy(), self.epoch),
            "steps": self.steps_made(),
            "batch": self.largest_batch,
            "lr": self.peak_lr,
            "unreadable_images": self.data.unreadable,
            "weights": self.network.loaded,
            "mean": list(self.network.mean),
            "std": list(self.network.std),
            "weight_decay": self.optimizer.param_groups[0]["weight_decay"],
            "accumulate": self.parts / self.steps_made(),
            **of_device(self.model, [self.forward_dtype]),
        }

    def _to_input(self, images: Tensor) -> Tensor:
        """(batch, side, side) or (batch, side, side, 3) uint8 to what the network sees, on the device."""
        pixels = images.to(self.device, non_blocking=True)
        planes = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
        # (planes / 255 - mean) / std, in two operations.
        mean, std = (
            torch.tensor(of, device=self.device)[:, None, None]
            for of in (self.network.mean, self.network.std)
        )
        scaled = planes.float().div(255 * std).sub(mean / std)
        return scaled.contiguous(memory_format=torch.channels_last)

    def _count(self, index: npt.NDArray[np.int64]) -> None:
        self.drawn += torch.from_numpy(np.bincount(index, minlength=len(self.drawn)))
        self.largest_batch = max(self.largest_batch, len(index))
        self.peak_lr = max(self.peak_lr, *(group["lr"] for group in self.optimizer.param_groups))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.spec.train.amp == "bf16")


@contextmanager
def _isolated_torch(seed: int) -> Iterator[None]:
    """Seed torch and set its threads and flags for one run; afterwards they are as they were before it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(own_threads())
    try:
        with (
            torch.random.fork_rng(devices=range(torch.cuda.device_count())),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        ):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _chunks(rows: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def _save(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_suffix(".tmp")
    torch.save(value, partial)
    os.replace(partial, path)
