"""The classifier: a small CNN, AdamW, an EMA of its weights, and the strategy's families around them.

Everything random is a function of (seed, epoch) or of torch's generator, whose state is in the checkpoint; so
a resumed run ends with the same weights, bit for bit on a CPU, as one that was never stopped.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from spaces.strategy import BASELINE, Strategy
from trainables.augmentation import (
    contrast_kept,
    image_pipeline,
    image_strength,
    seed_pipeline,
    transform_image,
)
from trainables.calibration import frozen, tuned_on
from trainables.classifier_models import build_network
from trainables.evaluation.classification import classification_metrics, untouched_metrics
from trainables.images import load_images
from trainables.loss import (
    FocalCrossEntropy,
    class_alpha,
    effective_prior,
    logit_adjustment,
    mixed_counts,
)
from trainables.models import check_model
from trainables.predictions import ClassificationPredictions, save_predictions
from trainables.sampling import (
    Draws,
    draw_weights,
    holds_minority,
    minority_share,
    retain,
    sampled_counts,
)
from trainables.trial import (
    LACKS,
    TRAIN_RECALL,
    Diverged,
    EpochMetrics,
    OnEpoch,
    Trained,
    TrialFolder,
    TrialSpec,
)

STATE, WEIGHTS, PREDICTIONS = "state.pt", "weights.pt", "predictions.npz"
EMA_DECAY = 0.97  # averages over about 30 steps: short runs have no time for more
WARM_UP = 0.1  # share of the steps
PREDICTED_AT_ONCE = 2**23  # pixels times channels: what a deep network makes of them must fit a small GPU
CONTRAST_IMAGES = 128  # of each group, to see what augmentation does to small structures
MAJORITY, MINORITY = 0, 1  # keys of the augmentation streams


def train_classifier(spec: TrialSpec, folder: TrialFolder, on_epoch: OnEpoch) -> Trained:
    """Train `spec` and measure it; the contract is `run.run_trial`'s.

    Raises:
        Diverged: The loss is not finite.
        UsageError: The model is not known.
    """
    check_model(spec.train.model, "classification")
    with _isolated_torch(spec.seed):
        run = _Run(spec)
        if folder.resume is not None:
            run.restore(folder.resume / STATE)
        untouched = None
        while run.epoch < spec.train.epochs and not out_of_patience(run.macro_f1, spec.train.patience):
            run.train_epoch()
            untouched = run.predict("val")
            metrics = untouched_metrics(untouched)
            run.macro_f1.append(metrics["macro_f1"] or 0.0)
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
            exposure=float(drawn[run.rare].sum() / drawn.sum()),
            images_seen=int(drawn.sum()),
            unique_images=int((drawn > 0).sum()),
            steps=run.steps_made(),
            device="cpu" if run.device.type == "cpu" else torch.cuda.get_device_name(run.device),
        )


def learning_rate(step: int, *, steps: int, peak: float, final: float) -> float:
    """Rate of a step, counted from 0: linear warm-up to `peak`, then half a cosine to `peak * final`."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm + 1) / (steps - warm)
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)


def out_of_patience(values: Sequence[float], patience: int) -> bool:
    """Whether none of the last `patience` values is above all before them; never with a patience of 0."""
    return 0 < patience < len(values) and max(values[-patience:]) <= max(values[:-patience])


class _Run:
    """One training run: its data, its objects, and how far it is."""

    def __init__(self, spec: TrialSpec) -> None:
        train, strategy = spec.train, spec.strategy
        self.spec = spec
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.data = load_images(spec.data.source, train.imgsz)
        self.splits, self.names = self.data.splits, self.data.class_names
        self.minority = sorted(self.names.index(name) for name in spec.data.minority)
        everything = self.splits["train"]
        classes = [frozenset({int(label)}) for label in everything.labels]
        self.majority_images = int((~holds_minority(classes, self.minority)).sum())
        self.kept = retain(classes, self.minority, retention=strategy.sampling.retention, seed=spec.seed)
        self.classes = [classes[i] for i in self.kept]
        self.labels = everything.labels[self.kept]  # (n,)
        self.rare = holds_minority(self.classes, self.minority)  # (n,)
        # Of each epoch; epochs under the same strategy share theirs.
        plan = self._plan()
        draws = {each: self._draws(each) for each in set(plan)}
        criteria = {each: self._criterion(each, draws[each]) for each in draws}
        self.draws, self.criteria = [draws[each] for each in plan], [criteria[each] for each in plan]
        self.pipelines = {
            MAJORITY: image_pipeline(strategy.augmentation.augment_rest),
            MINORITY: image_pipeline(strategy.augmentation.augment_minority),
        }
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
        self.drawn = torch.zeros(len(self.kept), dtype=torch.int64)  # how often each image was drawn
        self.largest_batch = 0
        self.peak_lr = 0.0

    def train_epoch(self) -> None:
        """`eval_every` optimizer steps."""
        train, draws, criterion = self.spec.train, self.draws[self.epoch], self.criteria[self.epoch]
        for stream, pipeline in self.pipelines.items():
            seed_pipeline(pipeline, draws.seed, stream, self.epoch)
        order = draws.epoch(self.epoch)
        total = torch.zeros((), device=self.device)
        self.model.train()
        for first in range(0, len(order), train.batch):
            index = order[first : first + train.batch]
            step = self.epoch * train.eval_every + first // train.batch
            lr = learning_rate(step, steps=train.steps, peak=train.lr, final=train.lr_final)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            images = self._to_input(self._augmented(index))
            labels = torch.from_numpy(self.labels[index]).to(self.device)
            with self._autocast():
                logits = self.model(images)
            loss = criterion(logits.float(), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.ema.update_parameters(self.model)
            total += loss.detach()
            self._count(index)
        if not math.isfinite(total.item()):  # once an epoch: it waits for the GPU
            raise Diverged(f"the loss is not finite in epoch {self.epoch + 1}")
        self.epoch += 1

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
        chunks = _chunks(rows, max(1, min(1024, PREDICTED_AT_ONCE // size)))
        self.ema.eval()
        with torch.inference_mode(), self._autocast():
            parts = [self.ema(self._to_input(data.images[chunk])).float().cpu() for chunk in chunks]
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
            "drawn": self.drawn,
            "largest_batch": self.largest_batch,
            "peak_lr": self.peak_lr,
        }

    def restore(self, path: Path) -> None:
        """Go back to what `state` returned."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"].cpu())
        self.drawn = state["drawn"].cpu()
        self.epoch, self.macro_f1 = state["epoch"], state["macro_f1"]
        self.largest_batch, self.peak_lr = state["largest_batch"], state["peak_lr"]

    def weights(self, val: ClassificationPredictions) -> dict[str, Any]:
        """The averaged weights, with what is needed to build their network again and to decide as on val.

        The decision is `argmax(logits + bias)`; the probabilities are `softmax(logits / temperature)`.
        """
        return {
            "model": self.spec.train.model,
            "class_names": list(self.names),
            "imgsz": self.spec.train.imgsz,
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
        """What was used, read from data set, draws, criteria, pipelines and optimizer.

        Draws and criteria of the first and the last epoch are held against what the strategy asks for then.
        Of what `defer` changes over time, `alpha` and `effective_prior` are the last epoch's, and
        `minority_share` the mean.
        """
        asked = self.spec.strategy
        sampling, loss = asked.sampling, asked.loss
        plan, criterion = self._plan(), self.criteria[-1]
        ends = [(plan[end], self.draws[end], self.criteria[end]) for end in (0, -1)]
        drawn_as_asked = all(_same(used.weights, self._weights(each)) for each, used, _ in ends)
        weighted_as_asked = all(_close(used.alpha, self._alpha(each, drawn)) for each, drawn, used in ends)
        adjusted_as_asked = all(
            _close(used.adjustment, self._adjustment(each, drawn)) for each, drawn, used in ends
        )
        corrected_as_asked = weighted_as_asked and adjusted_as_asked
        alpha, adjustment = criterion.alpha.cpu().numpy(), criterion.adjustment.cpu().numpy()
        prior = effective_prior(alpha, self._sampled_counts(self.draws[-1]), adjustment)
        by_class = np.bincount(self.labels, weights=self.drawn.numpy(), minlength=len(self.names))
        return {
            "retention": int((~self.rare).sum()) / max(1, self.majority_images),
            "majority_images": self.majority_images,
            "minority_images": int(self.rare.sum()),
            "sampler_power": sampling.sampler_power if drawn_as_asked else None,
            "repeat_threshold": sampling.repeat_threshold if drawn_as_asked else None,
            "max_repeat": sampling.max_repeat if drawn_as_asked else None,
            "defer": sampling.defer if drawn_as_asked and corrected_as_asked else None,
            "minority_share": float(
                np.mean([minority_share(self.rare, each.weights) for each in self.draws])
            ),
            "focal_gamma": _common(each.gamma for each in self.criteria),
            "alpha_power": loss.alpha_power if weighted_as_asked else None,
            "alpha_prior": loss.alpha_prior if corrected_as_asked else None,
            "alpha_cap": loss.alpha_cap if weighted_as_asked else None,
            "class_balance": loss.class_balance if weighted_as_asked else None,
            "logit_tau": loss.logit_tau if adjusted_as_asked else None,
            "label_smoothing": _common(each.smoothing for each in self.criteria),
            "augment_minority": image_strength(self.pipelines[MINORITY]),
            "augment_rest": image_strength(self.pipelines[MAJORITY]),
            "contrast_kept": {
                "minority": self._contrast_kept(MINORITY),
                "rest": self._contrast_kept(MAJORITY),
            },
            **{knob: BASELINE.knobs()[knob] for knob in LACKS["classification"]},
            "steps": self.steps_made(),
            "batch": self.largest_batch,
            "lr": self.peak_lr,
            "seed": _common(each.seed for each in self.draws),
            "alpha": dict(zip(self.names, alpha.tolist(), strict=True)),
            "effective_prior": dict(zip(self.names, prior.tolist(), strict=True)),
            "train_images": dict(zip(self.names, self._counts().tolist(), strict=True)),
            "drawn_images": dict(zip(self.names, by_class.astype(int).tolist(), strict=True)),
            "unreadable_images": self.data.unreadable,
            "weights": self.network.loaded,
            "mean": list(self.network.mean),
            "std": list(self.network.std),
            "weight_decay": self.optimizer.param_groups[0]["weight_decay"],
            "amp": self.spec.train.amp,
        }

    def _contrast_kept(self, group: int) -> float | None:
        """On the first images of a group, by its pipeline, whose generator serves no epoch after this."""
        seed_pipeline(self.pipelines[group], self.draws[-1].seed, group, self.spec.train.epochs)
        of_group = self.kept[self.rare == (group == MINORITY)]
        return contrast_kept(self.pipelines[group], self.splits["train"].images[of_group[:CONTRAST_IMAGES]])

    def _counts(self) -> npt.NDArray[np.int64]:
        """Training images per class that are drawn from, (n_classes,)."""
        return np.bincount(self.labels, minlength=len(self.names))

    def _plan(self) -> list[Strategy]:
        """The strategy in force in each epoch: a function of the epoch alone."""
        last = self.spec.train.epochs - 1
        return [self.spec.strategy.at(epoch / max(1, last)) for epoch in range(last + 1)]

    def _draws(self, strategy: Strategy) -> Draws:
        train = self.spec.train
        return Draws(len(self.kept), train.eval_every * train.batch, self._weights(strategy), self.spec.seed)

    def _criterion(self, strategy: Strategy, draws: Draws) -> FocalCrossEntropy:
        loss = strategy.loss
        alpha, adjustment = self._alpha(strategy, draws), self._adjustment(strategy, draws)
        return FocalCrossEntropy(alpha, loss.focal_gamma, adjustment, loss.label_smoothing).to(self.device)

    def _weights(self, strategy: Strategy) -> npt.NDArray[np.float64] | None:
        """What the strategy draws each image with, (n,); None for shuffled passes."""
        sampling = strategy.sampling
        return draw_weights(
            self.classes,
            power=sampling.sampler_power,
            repeat_threshold=sampling.repeat_threshold,
            max_repeat=sampling.max_repeat,
        )

    def _sampled_counts(self, draws: Draws) -> npt.NDArray[np.float64]:
        """Images of each class that a pass of the draws meets on average, (n_classes,)."""
        each = list(self.labels[:, None])  # an image has one label
        return sampled_counts(each, draws.weights, n_classes=len(self.names))

    def _corrected_counts(self, strategy: Strategy, draws: Draws) -> npt.NDArray[np.float64]:
        """The counts that the loss makes up for, (n_classes,)."""
        everything = np.bincount(self.splits["train"].labels, minlength=len(self.names))
        return mixed_counts(everything, self._sampled_counts(draws), share=strategy.loss.alpha_prior)

    def _alpha(self, strategy: Strategy, draws: Draws) -> npt.NDArray[np.float64]:
        """The strategy's weight of each class, (n_classes,)."""
        loss, counts = strategy.loss, self._corrected_counts(strategy, draws)
        return class_alpha(counts, power=loss.alpha_power, cap=loss.alpha_cap, balance=loss.class_balance)

    def _adjustment(self, strategy: Strategy, draws: Draws) -> npt.NDArray[np.float64]:
        """What the strategy's loss adds to each class's logit, (n_classes,)."""
        return logit_adjustment(self._corrected_counts(strategy, draws), tau=strategy.loss.logit_tau)

    def _augmented(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """A batch of images kept, each freshly transformed by the pipeline of its group."""
        batch = self.splits["train"].images[self.kept[index]]
        if any(pipeline is not None for pipeline in self.pipelines.values()):
            for position, is_rare in enumerate(self.rare[index]):
                pipeline = self.pipelines[MINORITY if is_rare else MAJORITY]
                batch[position] = transform_image(pipeline, batch[position])
        return batch

    def _to_input(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """(batch, side, side) or (batch, side, side, 3) uint8 to what the network sees, on the device."""
        pixels = torch.from_numpy(images).to(self.device)
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
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
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


def _same(a: npt.NDArray[np.float64] | None, b: npt.NDArray[np.float64] | None) -> bool:
    return a is b if a is None or b is None else bool(np.array_equal(a, b))


def _common(values: Iterable[float]) -> float | None:
    """The one value that all of them are; None if they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _close(used: Tensor, wanted: npt.NDArray[np.float64]) -> bool:
    return bool(np.allclose(used.cpu().numpy(), wanted, rtol=1e-5))


def _save(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_suffix(".tmp")
    torch.save(value, partial)
    os.replace(partial, path)
